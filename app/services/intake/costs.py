"""What the work of a plan takes, estimated from sizes: CPU time, memory and the bytes of what comes out.

The constants are fitted by `python -m benchmarks plan`, on photographs. They are nanoseconds on a machine where the
reference decode, that of docs/sample.jpg, takes `REFERENCE_SECONDS`; on another machine they are scaled by its time for
that decode.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.formats import FORMATS
from app.imaging.geometry import Size, measure, size_after
from app.imaging.memory import BASE, Work
from app.imaging.responsive import breakpoints
from app.imaging.responsive.breakpoints import Outline
from app.operations import ENCODERS, OPERATIONS, RESIZE, WEB, Queue
from app.parameters import AvifParams, JpegParams, PngParams, QualityTarget, WebpParams
from app.references import resolve
from app.services.dag_builder import Plan, PlannedResult, PlannedStep, PlannedTask

REFERENCE_SECONDS = 0.0107
#: of a task, whatever it does: opening a file, headers, profiles
TASK_SECONDS = 0.0106
CHEAP_PIXELS = 4_000_000  # as `pipeline.CHEAP_PIXELS`: of all files that are written in one go
#: nanoseconds for each pixel of the upload, by its format
DECODE = {"jpeg": 16.3, "png": 10.0, "webp": 18.0, "avif": 29.0, "heic": 60.0, "tiff": 7.5, "gif": 19.0}
INTERMEDIATE_READ, INTERMEDIATE_WRITE = 1.0, 1.0
#: a JPEG that is divided while it is decoded: of each pixel of the upload
DECODE_SHRUNK = {2: 7.0, 4: 6.0, 8: 5.0}
#: nanoseconds for each pixel that an operation begins with, and that it ends with
WORK: dict[str, tuple[float, float]] = {
    "resize": (1.0, 3.0),
    "crop": (2.9, 0.0),
    "rotate": (19.5, 0.0),
    "flip": (18.0, 0.0),
    "trim": (130.0, 0.0),
    "blur": (83.0, 0.0),
    "sharpen": (99.0, 0.0),
    "grayscale": (1.0, 0.0),
    "watermark": (5.0, 0.0),
    "metadata": (9.0, 0.0),
    "web": (3.0, 0.0),
    "denoise": (430_000.0, 0.0),
}
#: nanoseconds for each pixel that is written, with the default parameters
ENCODE = {
    "convert_webp": 72.0,
    "convert_avif": 243.0,
    "convert_jpeg": 7.0,
    "convert_png": 111.0,
    "convert_gif": 326.0,
    "convert_tiff": 33.0,
}
#: bytes for each pixel that is written
DENSITY = {"webp": 0.13, "avif": 0.09, "jpeg": 0.19, "png": 1.7, "gif": 0.75, "tiff": 2.6}
JSON_BYTES = 2000
SET_SECONDS = 0.03  # placeholders, manifest and markup of a set
SEARCHES = 8.0  # encodings until a quality is found
TRELLIS = 3.0


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is known of an image."""

    format: str
    size: Size
    frames: int = 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A result that is to come; None where only the pixels, or the source, would show it."""

    name: str
    step: str
    format: str | None
    size: Size | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan takes; None where it cannot be known."""

    outcomes: tuple[Outcome, ...]
    cpu_seconds: float | None
    memory_bytes: int | None


def estimate(plan: Plan, given: Input | None, reference_seconds: float) -> Estimate:
    """What a plan takes.

    Args:
        plan: of a job.
        given: the image; None: it has yet to be fetched.
        reference_seconds: CPU time of the reference decode on the machines that will do it.
    """
    sizes: dict[str | None, Size | None] = {None: given.size if given else None}
    for task in plan.tasks:
        if not task.steps or task.queue == Queue.FETCH.value:
            sizes[task.id] = sizes[None]
        else:
            sizes[task.id] = _size_of(task, sizes[task.parent])
    work = [task for task in plan.tasks if task.queue != Queue.FETCH.value]
    outcomes = tuple(one for task in work if task.result for one in _outcomes(task.result, task, sizes[task.id], given))
    costs = [_cost(plan, task, sizes, given) for task in work]
    memory = [_memory(task, sizes[task.parent], sizes[task.id], given) for task in work]
    seconds = None if given is None or None in costs else sum(cost for cost in costs if cost is not None)
    return Estimate(
        outcomes=outcomes,
        cpu_seconds=None if seconds is None else round(seconds * reference_seconds / REFERENCE_SECONDS, 4),
        memory_bytes=None if given is None or None in memory else max(one for one in memory if one is not None),
    )


def _size_of(task: PlannedTask, size: Size | None) -> Size | None:
    for step in task.steps:
        size = size_after(step.op, size, _params(step.op, step.params))
    return size


def _params(op: str, params: dict[str, Any]) -> Any:
    return OPERATIONS[op].params.model_validate(params)


def _outcomes(result: PlannedResult, task: PlannedTask, size: Size | None, given: Input | None) -> Iterator[Outcome]:
    if not result.is_bundle:
        yield _outcome(result, task, size, given)
        return
    for part in parts(result, size):
        yield Outcome(
            name=result.name_of(part.suffix),
            step=task.id,
            format=part.format,
            size=part.size,
            bytes=_bytes_of_part(part),
        )


def parts(result: PlannedResult, size: Size | None) -> tuple[Outline, ...]:
    """The files of a result that is several."""
    found: tuple[Outline, ...] = resolve(str(OPERATIONS[result.encoder].bundle))(
        _params(result.encoder, result.params), size
    )
    return found


def _bytes_of_part(part: Outline) -> int | None:
    if part.format not in DENSITY:
        return JSON_BYTES
    return None if part.size is None else round(part.size[0] * part.size[1] * DENSITY[part.format])


def _outcome(result: PlannedResult, task: PlannedTask, size: Size | None, given: Input | None) -> Outcome:
    format_ = result.format if result.encoder else None
    is_image = format_ is None or FORMATS[format_].is_image
    return Outcome(
        name=result.name,
        step=task.id,
        format=format_,
        size=size if is_image else None,
        bytes=_bytes(result, size, given),
    )


def _bytes(result: PlannedResult, size: Size | None, given: Input | None) -> int | None:
    if not result.encoder or size is None:
        return None
    if result.format not in DENSITY:
        return JSON_BYTES
    frames = given.frames if given and OPERATIONS[result.encoder].animated else 1
    likely = round(size[0] * size[1] * frames * DENSITY[result.format])
    most = result.params.get("max_bytes")
    return min(likely, most) if most else likely


def _cost(plan: Plan, task: PlannedTask, sizes: dict[str | None, Size | None], given: Input | None) -> float | None:
    """Seconds of CPU time on the machine of the constants."""
    size, parent = sizes[task.parent], plan.task(task.parent) if task.parent and not task.is_first else None
    if size is None or given is None or (sizes[task.id] is None and task.result):
        return None
    if parent is not None and task in _inlined(plan, parent, sizes):
        return _encoding(task, sizes[task.id], given)
    nanoseconds = _reading(task, size, given)
    for step in task.steps:
        after = size_after(step.op, size, _params(step.op, step.params))
        begins, ends = WORK.get(step.op, (0.0, 0.0))
        nanoseconds += begins * _pixels(size, given) + ends * _pixels(after or size, given)
        size = after
        if size is None:
            return None
    if task.intermediate and len(_inlined(plan, task, sizes)) < len(plan.children(task.id)):
        nanoseconds += INTERMEDIATE_WRITE * _pixels(size, given)
    encoding = (
        _encoding_parts(task.result, size) if task.result and task.result.is_bundle else _encoding(task, size, given)
    )
    return None if encoding is None else TASK_SECONDS + nanoseconds * 1e-9 + encoding


def _inlined(plan: Plan, task: PlannedTask, sizes: dict[str | None, Size | None]) -> list[PlannedTask]:
    """The tasks whose files this one writes along with its own."""
    size = sizes[task.id]
    if size is None:
        return []
    room = CHEAP_PIXELS // max(1, size[0] * size[1]) - (task.result is not None)
    return plan.inline_children(task)[: max(0, room)]


def _pixels(size: Size, given: Input) -> int:
    return size[0] * size[1] * given.frames


def _reading(task: PlannedTask, size: Size, given: Input) -> float:
    pixels = _pixels(size, given)
    if not task.is_first:
        return INTERMEDIATE_READ * pixels
    if given.format == "jpeg":
        return DECODE_SHRUNK.get(_shrink(task.steps[0], size), DECODE["jpeg"]) * pixels
    return DECODE[given.format] * pixels


def _shrink(first: PlannedStep, size: Size) -> int:
    """By what the decoder divides the image for the first step."""
    params = _params(first.op, first.params)
    if first.op == RESIZE.name:
        return measure(*size, params).shrink
    return breakpoints.on_load(size, params)[0] if first.op == WEB.name else 1


def _encoding_parts(result: PlannedResult, size: Size) -> float | None:
    """Seconds that writing the files of a set takes; None where their number depends on the pixels."""
    params, nanoseconds = _params(result.encoder, result.params), 0.0
    for part in parts(result, size):
        if part.format not in DENSITY:
            continue
        if part.size is None:
            return None
        encoder = ENCODERS[part.format]
        nanoseconds += _of_encoder(encoder.name, params.of_encoder(part.format)) * part.size[0] * part.size[1]
    return SET_SECONDS + nanoseconds * 1e-9


def _encoding(task: PlannedTask, size: Size | None, given: Input) -> float:
    """Seconds that writing the result takes."""
    if task.result is None or size is None or task.result.encoder not in ENCODE:
        return 0.0
    operation, params = OPERATIONS[task.result.encoder], _params(task.result.encoder, task.result.params)
    pixels = size[0] * size[1] * (given.frames if operation.animated else 1)
    return _of_encoder(operation.name, params) * pixels * 1e-9


def _of_encoder(name: str, params: Any) -> float:
    """Nanoseconds for each pixel that is written."""
    factor = FACTORS.get(name, lambda _: 1.0)(params)
    if isinstance(params, QualityTarget) and not params.is_unconstrained:
        factor *= SEARCHES
    return ENCODE[name] * factor


def _webp(params: WebpParams) -> float:
    by_effort = (0.25, 0.35, 0.6, 0.7, 1.0, 1.5, 2.5)[params.effort]
    return by_effort * (6.0 if params.lossless else 1.0)


def _avif(params: AvifParams) -> float:
    by_effort = (0.7, 0.8, 1.0, 1.9, 3.5, 6.5, 12.0, 25.0, 60.0, 107.0)[params.effort]
    return by_effort * (0.5 + params.quality / 130)


def _jpeg(params: JpegParams) -> float:
    return TRELLIS if params.trellis else 1.0


def _png(params: PngParams) -> float:
    by_compression = (0.15, 0.4, 0.45, 0.55, 0.7, 0.85, 1.0, 1.3, 2.5, 4.5)[params.compression]
    return by_compression * (2.5 if params.colours else 1.0)


#: how many times as long as with the default parameters
FACTORS: dict[str, Callable[[Any], float]] = {
    "convert_webp": _webp,
    "convert_avif": _avif,
    "convert_jpeg": _jpeg,
    "convert_png": _png,
}


def _memory(task: PlannedTask, before: Size | None, after: Size | None, given: Input | None) -> int | None:
    """Bytes of the process at its peak, as far as the memory of encoders is known."""
    if before is None or after is None or given is None:
        return None
    held = max(before[0] * before[1], after[0] * after[1]) * given.frames * 3
    if task.result is None or not task.result.encoder:
        return BASE + held
    params = _params(task.result.encoder, task.result.params)
    if not task.result.is_bundle:
        return max(BASE + held, Work(task.result.encoder, params, after[0] * after[1] * given.frames).needed)
    width, height = breakpoints.largest(params, after)
    work = [Work(ENCODERS[one].name, params.of_encoder(one), width * height) for one in params.formats]
    return held + max(each.needed for each in work)
