"""The cost of a plan, estimated from headers: CPU time, memory and the bytes of the results.

The constants are fitted to photographs by `python -m benchmarks plan`. They are nanoseconds on a machine on which the
reference decode, of docs/sample.jpg, takes `REFERENCE_SECONDS`. For another machine they are scaled by its time for
that decode.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.formats import FORMATS
from app.imaging.geometry import QUARTER, Size, measure, turn
from app.imaging.memory import BASE, Work
from app.imaging.responsive import breakpoints
from app.imaging.responsive.breakpoints import Outline
from app.operations import BLUR, CROP, ENCODERS, FLIP, OPERATIONS, RESIZE, ROTATE, SHARPEN, TRIM, WEB, Queue
from app.parameters import AvifParams, JpegParams, PngParams, QualityTarget, WebpParams
from app.references import resolve
from app.services.dag_builder import Plan, PlannedResult, PlannedStep, PlannedTask
from app.services.intake.content import Content, after, area, of_upload, scaled, usual_bytes

REFERENCE_SECONDS = 0.0107
#: fixed cost of a task: opening the file, headers, profiles
TASK_SECONDS = 0.00355
FILE_SECONDS = 0.0016  # per file that is written
SET_SECONDS = 0.0154  # placeholders, manifest and markup of a set
CHEAP_PIXELS = 4_000_000  # `pipeline.CHEAP_PIXELS`: limit of pixels over all files of one task
#: nanoseconds per pixel and per byte of the upload, by its format
DECODE = {
    "jpeg": (1.54, 8.63),
    "png": (4.0, 3.5),
    "webp": (12.0, 30.0),
    "avif": (20.0, 75.0),
    "heic": (50.0, 83.0),
    "tiff": (2.0, 2.0),
    "gif": (8.0, 14.0),
}
INTERMEDIATE_READ, INTERMEDIATE_WRITE = 2.1, 4.91
#: nanoseconds per pixel of a JPEG that is shrunk while decoding, by divisor; the time per byte does not change
DECODE_SHRUNK = {2: 1.9, 4: 1.3, 8: 0.6}
#: nanoseconds by kind of work, for each of the two numbers of `_amounts`: mostly pixels of the input and of the output
WORK: dict[str, tuple[float, float]] = {
    "resize": (3.59, 5.75),
    "resize, enlarging": (1.69, 33.6),
    "resize, linear": (19.5, 37.2),
    "crop": (0.0, 0.0),
    "rotate": (1.05, 1.04),
    "rotate, any angle": (3.62, 15.3),
    "flip": (1.54, 1.54),
    "trim": (130.0, 0.0),
    "blur": (16.4, 19.4),
    "sharpen": (84.1, 0.0),
    "grayscale": (9.11, 0.0),
    "watermark": (5.0, 0.0),
    "metadata": (9.0, 0.0),
    "web": (1.23, 7.46),
    "denoise": (430_000.0, 0.0),
}
#: nanoseconds per pixel that is written with the default effort, and per byte of the file
ENCODE = {
    "convert_webp": (57.8, 232.0),
    "convert_avif": (438.0, 570.0),
    "convert_jpeg": (5.82, 62.4),
    "convert_png": (90.5, 0.0),
    "convert_gif": (200.0, 160.0),
    "convert_tiff": (10.0, 8.0),
}
#: exponents with which the time per pixel grows with the detail of the image
BUSY = {"convert_avif": 0.3, "convert_png": 0.2}
LIKENESS = 80.0  # nanoseconds per pixel of a file that is read again and compared
JSON_BYTES = 2000
#: formats in which each channel costs the same; in other formats colour costs little compared with luminance
BY_CHANNEL = {"png", "tiff"}
TRELLIS = 5.0
PERFECT = 101  # the best quality plus one: the size formula diverges here
QUALITIES = 99  # number of candidates of a quality search for `min_ssim`
TILE = 128  # side of the tiles of libvips, in pixels
REACH = 2.8  # radius of a blur in pixels, per sigma
SMALL_BLUR = 12.0  # sigma from which `blur` works on a smaller image
KERNEL = 2  # `resize` first averages rows and columns, down to this many times the size of the result


class Density(NamedTuple):
    """The bytes per pixel of files of a format."""

    #: bytes per pixel of a photograph with typical detail and default parameters
    typical: float
    #: exponents with which it grows with detail, and falls with the distance of the quality from the best
    detail: float
    quality: float = 0.0
    #: factor for lossless compression
    lossless: float = 1.0


DENSITY = {
    "webp": Density(0.145, 0.62, 0.69, 6.5),
    "avif": Density(0.13, 0.63, 0.82, 13.5),
    "jpeg": Density(0.191, 0.46, 0.57),
    "png": Density(1.5, 0.4),
    "gif": Density(0.75, 0.2),
    "tiff": Density(2.6, 0.1),
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """The known facts about an input image."""

    format: str
    size: Size
    frames: int = 1
    #: size of the file; None: the usual size of such an image
    bytes: int | None = None

    @property
    def content(self) -> Content:
        """The content of the image."""
        return of_upload(self.format, self.size, self.frames, self.bytes)

    @property
    def likely_bytes(self) -> float:
        """The size of the file in bytes, or of a typical one if it is unknown."""
        return usual_bytes(self.format, self.size, self.frames) if self.bytes is None else self.bytes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An expected result; None: a value depends on the pixels, or on a source that has not been fetched."""

    name: str
    step: str
    format: str | None
    size: Size | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimated cost of a plan; None: a value cannot be estimated."""

    outcomes: tuple[Outcome, ...]
    cpu_seconds: float | None
    memory_bytes: int | None


Contents = dict[str | None, Content | None]


def estimate(plan: Plan, given: Input | None, reference_seconds: float) -> Estimate:
    """Estimate the cost of a plan.

    Args:
        plan: the plan of a job.
        given: the image; None: it has not been fetched yet.
        reference_seconds: CPU time of the reference decode on the machines that do the work.
    """
    contents = _contents(plan, given)
    work = [task for task in plan.tasks if task.queue != Queue.FETCH.value]
    outcomes = tuple(
        one for task in work if task.result for one in _outcomes(task.result, task, contents[task.id], given)
    )
    costs = list(_seconds(plan, contents, given).values())
    memory = [_memory(task, contents[task.parent], given) for task in work]
    total = None if given is None or None in costs else sum(cost for cost in costs if cost is not None)
    return Estimate(
        outcomes=outcomes,
        cpu_seconds=None if total is None else round(total * reference_seconds / REFERENCE_SECONDS, 4),
        memory_bytes=None if given is None or None in memory else max(one for one in memory if one is not None),
    )


def seconds(plan: Plan, given: Input | None) -> dict[str, float | None]:
    """CPU seconds by task, on the machine of the constants.

    A file that the parent task writes inline still counts for its own task.
    """
    return _seconds(plan, _contents(plan, given), given)


def _seconds(plan: Plan, contents: Contents, given: Input | None) -> dict[str, float | None]:
    return {task.id: _cost(plan, task, contents, given) for task in plan.tasks if task.queue != Queue.FETCH.value}


def _contents(plan: Plan, given: Input | None) -> Contents:
    """The image at the end of each task by its id; the key None has the input of the plan."""
    found: Contents = {None: given.content if given else None}
    for task in plan.tasks:
        fetches = task.queue == Queue.FETCH.value
        found[task.id] = found[None] if fetches else _passed(task, found[task.parent])[-1]
    return found


def _passed(task: PlannedTask, content: Content | None) -> list[Content | None]:
    """The image at the start of a task, and after each of its steps."""
    found = [content]
    for step in task.steps:
        found.append(after(step.op, _params(step.op, step.params), found[-1]))
    return found


def _params(op: str, params: dict[str, Any]) -> Any:
    return OPERATIONS[op].params.model_validate(params)


def _outcomes(
    result: PlannedResult, task: PlannedTask, content: Content | None, given: Input | None
) -> Iterator[Outcome]:
    if not result.is_bundle:
        yield _outcome(result, task, content, given)
        return
    params = _params(result.encoder, result.params)
    for part in parts(result, content.size if content else None):
        yield Outcome(
            name=result.name_of(part.suffix),
            step=task.id,
            format=part.format,
            size=part.size,
            bytes=_bytes_of_part(part, params, content),
        )


def parts(result: PlannedResult, size: Size | None) -> tuple[Outline, ...]:
    """The files of a result that consists of several files."""
    found: tuple[Outline, ...] = resolve(str(OPERATIONS[result.encoder].bundle))(
        _params(result.encoder, result.params), size
    )
    return found


def _bytes_of_part(part: Outline, params: Any, content: Content | None) -> int | None:
    if part.format not in DENSITY:
        return JSON_BYTES
    if part.size is None or content is None:
        return None
    return round(_file_bytes(part.format, params.of_encoder(part.format), scaled(content, part.size)))


def _outcome(result: PlannedResult, task: PlannedTask, content: Content | None, given: Input | None) -> Outcome:
    format_ = result.format if result.encoder else None
    is_image = format_ is None or FORMATS[format_].is_image
    return Outcome(
        name=result.name,
        step=task.id,
        format=format_,
        size=content.size if is_image and content else None,
        bytes=_bytes(result, content, given),
    )


def _bytes(result: PlannedResult, content: Content | None, given: Input | None) -> int | None:
    if not result.encoder or content is None:
        return None
    if result.format not in DENSITY:
        return JSON_BYTES
    frames = given.frames if given and OPERATIONS[result.encoder].animated else 1
    params = _params(result.encoder, result.params)
    likely = round(_file_bytes(result.format, params, content) * frames)
    return min(likely, params.max_bytes) if params.max_bytes else likely


def _file_bytes(format_: str, params: Any, content: Content) -> float:
    """The likely size of a file of one frame."""
    typical, detail, by_quality, lossless = DENSITY[format_]
    density = typical * content.busyness**detail
    density *= lossless if getattr(params, "lossless", False) else _by_quality(params) ** by_quality
    return float(density * _written(format_, content))


def _written(format_: str, content: Content) -> float:
    """The number of pixels that determines the size of a file."""
    return _samples(content) if format_ in BY_CHANNEL else content.pixels


def _by_quality(params: Any) -> float:
    """How many times closer to the best quality this quality is than the default one; 1 without a quality."""
    quality: int | None = getattr(params, "quality", None)
    if quality is None:
        return 1.0
    default: int = type(params).model_fields["quality"].default
    return (PERFECT - default) / (PERFECT - quality)


def _cost(plan: Plan, task: PlannedTask, contents: Contents, given: Input | None) -> float | None:
    """The CPU seconds of a task on the machine of the constants; None if they cannot be estimated."""
    content, parent = contents[task.parent], plan.task(task.parent) if task.parent and not task.is_first else None
    ends = contents[task.id]
    if content is None or given is None or ends is None:
        return None
    if parent is not None and task in _inlined(plan, parent, ends.size):
        return _encoding(task, ends, given)
    shrink = _shrink(task, content, given)
    nanoseconds = _reading(task, content, given, shrink)
    passed = [one for one in _passed(task, content) if one is not None]
    nanoseconds += sum(_working(task, passed, shrink)) * given.frames
    if task.intermediate and len(_inlined(plan, task, ends.size)) < len(plan.children(task.id)):
        nanoseconds += INTERMEDIATE_WRITE * _samples(ends) * given.frames
    is_bundle = task.result is not None and task.result.is_bundle
    encoding = _encoding_parts(task, ends) if is_bundle else _encoding(task, ends, given)
    return None if encoding is None else TASK_SECONDS + nanoseconds * 1e-9 + encoding


def _inlined(plan: Plan, task: PlannedTask, size: Size) -> list[PlannedTask]:
    """The tasks whose files this task writes inline."""
    room = CHEAP_PIXELS // max(1, area(size)) - (task.result is not None)
    return plan.inline_children(task)[: max(0, room)]


def _samples(content: Content) -> float:
    """The size of an image in pixels with three channels each."""
    return content.pixels * content.channels / 3


def _reading(task: PlannedTask, content: Content, given: Input, shrink: int) -> float:
    if not task.is_first:
        return INTERMEDIATE_READ * _samples(content) * given.frames
    of_pixel, of_byte = DECODE[given.format]
    of_pixel = DECODE_SHRUNK.get(shrink, of_pixel)
    return of_pixel * content.pixels * given.frames + of_byte * given.likely_bytes


def _shrink(task: PlannedTask, content: Content, given: Input) -> int:
    """The factor by which the decoder shrinks the image for the first step."""
    if not task.is_first or given.format != "jpeg":
        return 1
    first = task.steps[0]
    params = _params(first.op, first.params)
    if first.op == RESIZE.name:
        return measure(*content.size, params).shrink
    return breakpoints.on_load(content.size, params)[0] if first.op == WEB.name else 1


def _working(task: PlannedTask, passed: list[Content], shrink: int) -> Iterator[float]:
    """Nanoseconds per frame for each step, from the last step to the first.

    libvips computes only the pixels that the next step needs: fewer if that step crops, and some more than once if it
    reads beyond the edges of its tiles. If a step needs the whole image in memory, each pixel is computed once.
    """
    asked = 1.0
    for number in reversed(range(len(task.steps))):
        step, before, ends = task.steps[number], passed[number], passed[number + 1]
        params, is_first = _params(step.op, step.params), number == 0
        kind, first, second = _amounts(step, params, before, ends, shrink if is_first else 1)
        is_whole = _in_memory(step, params)
        of_first, of_second = WORK.get(kind, (0.0, 0.0))
        yield of_first * first * (1.0 if is_whole else asked) + of_second * second * asked
        asked = 1.0 if is_whole else asked * _asked(step, params, before, ends)


def _amounts(step: PlannedStep, params: Any, before: Content, ends: Content, shrink: int) -> tuple[str, float, float]:
    """The kind of work of a step, and the two amounts with which its constants are multiplied."""
    begun, ended = _samples(before), _samples(ends)
    if step.op == RESIZE.name:
        return _resizing(params, before, shrink)
    if step.op == ROTATE.name:
        angle = turn(params)
        kind = "rotate, any angle" if angle % QUARTER else step.op
        return (kind, begun, ended) if angle else (kind, 0.0, 0.0)
    if step.op == BLUR.name:
        factor = max(1, int(params.sigma * 2 // SMALL_BLUR))
        sigma = params.sigma / factor
        return step.op, begun, begun / factor**2 * sigma * (1 + _overlap(sigma, before.size)) / 2
    if step.op == WEB.name:
        sizes = {part.size for part in breakpoints.outlines(params, before.size) if part.size}
        return step.op, begun / shrink**2, sum(map(area, sizes)) * before.channels / 3
    return step.op, before.pixels if step.op == SHARPEN.name else begun, ended


def _resizing(params: Any, before: Content, shrink: int) -> tuple[str, float, float]:
    geometry = measure(*before.size, params)
    if geometry.scaled == before.size:
        return RESIZE.name, 0.0, 0.0
    kept, whole = area(geometry.size), area(geometry.scaled)
    begun = before.pixels / shrink**2 * kept / whole
    averaged = max(1, int(math.sqrt(begun / kept) / KERNEL))
    kind = "resize, linear" if params.linear else "resize, enlarging" if whole > before.pixels else RESIZE.name
    return kind, begun / averaged**2 * before.channels / 3, kept * before.channels / 3


def _in_memory(step: PlannedStep, params: Any) -> bool:
    """Whether a step needs the whole image before it can compute a pixel."""
    if step.op == ROTATE.name:
        return turn(params) != 0
    if step.op == FLIP.name:
        return bool(params.direction != "horizontal")
    return step.op == TRIM.name or (step.op == BLUR.name and params.sigma >= SMALL_BLUR)


def _asked(step: PlannedStep, params: Any, before: Content, ends: Content) -> float:
    """The share of the input that a step reads for its whole output; more than 1 if it reads pixels repeatedly."""
    if step.op == BLUR.name:
        return _overlap(params.sigma, before.size)
    if step.op == RESIZE.name:
        geometry = measure(*before.size, params)
        return area(geometry.size) / area(geometry.scaled)
    return ends.pixels / before.pixels if step.op == CROP.name else 1.0


def _overlap(sigma: float, size: Size) -> float:
    """How often a blur reads each pixel, since its tiles overlap."""
    across, down = (1 + 2 * REACH * sigma * max(0.0, 1 / TILE - 1 / side) for side in size)
    return across * down


def _encoding_parts(task: PlannedTask, content: Content) -> float | None:
    """The CPU seconds for writing the files of a set; None if their number depends on the pixels."""
    if task.result is None:
        return 0.0
    params, total = _params(task.result.encoder, task.result.params), SET_SECONDS
    for part in parts(task.result, content.size):
        if part.format not in DENSITY:
            continue
        if part.size is None:
            return None
        total += _of_encoder(ENCODERS[part.format].name, params.of_encoder(part.format), scaled(content, part.size))
    return total


def _encoding(task: PlannedTask, content: Content, given: Input) -> float:
    """The CPU seconds for writing the result."""
    if task.result is None or task.result.encoder not in ENCODE:
        return 0.0
    operation, params = OPERATIONS[task.result.encoder], _params(task.result.encoder, task.result.params)
    return _of_encoder(operation.name, params, content) * (given.frames if operation.animated else 1)


def _of_encoder(name: str, params: Any, content: Content) -> float:
    """The CPU seconds for writing a file of one frame."""
    format_ = str(OPERATIONS[name].format)
    likely, (of_pixel, of_byte) = _file_bytes(format_, params, content), ENCODE[name]
    of_pixel *= math.pow(content.busyness, BUSY.get(name, 0.0))
    nanoseconds = of_pixel * _written(format_, content) + of_byte * likely
    once = FILE_SECONDS + nanoseconds * FACTORS.get(name, lambda _: 1.0)(params) * 1e-9
    if not isinstance(params, QualityTarget) or params.is_unconstrained:
        return once
    compared = 0.0 if params.min_ssim is None else LIKENESS * content.pixels * 1e-9
    return (once + compared) * _encodings(params, likely)


def _encodings(params: QualityTarget, likely: float) -> float:
    """The number of encodes until one meets the target, by bisection of the quality."""
    quality: int = getattr(params, "quality", 1)
    if quality == 1 or getattr(params, "lossless", False):
        return 1.0
    if params.min_ssim is not None:
        return math.log2(QUALITIES)
    return 1.0 if params.max_bytes is None or likely <= params.max_bytes else 1 + math.log2(quality)


def _webp(params: WebpParams) -> float:
    by_effort = (0.25, 0.35, 0.6, 0.7, 1.0, 1.5, 2.5)[params.effort]
    return by_effort * (5.0 if params.lossless else 1.0)


def _avif(params: AvifParams) -> float:
    by_effort = (0.7, 0.8, 1.0, 1.9, 3.5, 6.5, 12.0, 25.0, 60.0, 107.0)[params.effort]
    return by_effort * (0.5 if params.lossless else 1.0)  # lossless: less time per byte, but far more bytes


def _jpeg(params: JpegParams) -> float:
    return TRELLIS if params.trellis else 1.0


def _png(params: PngParams) -> float:
    by_compression = (0.15, 0.4, 0.45, 0.55, 0.7, 0.85, 1.0, 1.3, 2.5, 4.5)[params.compression]
    return by_compression * (2.5 if params.colours else 1.0)


#: time relative to the default parameters
FACTORS: dict[str, Callable[[Any], float]] = {
    "convert_webp": _webp,
    "convert_avif": _avif,
    "convert_jpeg": _jpeg,
    "convert_png": _png,
}


def _memory(task: PlannedTask, before: Content | None, given: Input | None) -> int | None:
    """The peak memory of the process in bytes; None if the sizes are unknown."""
    passed = _passed(task, before)
    ends = passed[-1]
    if before is None or ends is None or given is None:
        return None
    peak = _of_pixels(task, passed, given)
    if task.result is None or not task.result.encoder:
        return BASE + peak
    params = _params(task.result.encoder, task.result.params)
    if not task.result.is_bundle:
        pixels = ends.pixels * given.frames
        return max(BASE + peak, Work(task.result.encoder, params, pixels, pixel_bytes=ends.channels).needed)
    width, height = breakpoints.largest(params, ends.size)
    work = [Work(ENCODERS[one].name, params.of_encoder(one), width * height) for one in params.formats]
    held = ends.pixels // _shrink(task, before, given) ** 2 * ends.channels
    return max(BASE + peak, held + max(each.needed for each in work))


def _of_pixels(task: PlannedTask, passed: list[Content | None], given: Input) -> int:
    """The most bytes of images that a task keeps in memory: the source, those needed as a whole, and the last one."""
    contents = [content for content in passed if content is not None]
    held = peak = _held(contents[0], given) // _shrink(task, contents[0], given) ** 2 if task.is_first else 0
    for step, before in zip(task.steps, contents[:-1], strict=True):
        if _in_memory(step, _params(step.op, step.params)):
            peak, held = max(peak, held + _held(before, given)), _held(before, given)
    shrink = _shrink(task, contents[0], given) if task.steps[-1].op == WEB.name else 1
    return max(peak, held + _held(contents[-1], given) // shrink**2)


def _held(content: Content, given: Input) -> int:
    return content.pixels * content.channels * given.frames
