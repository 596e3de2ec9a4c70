"""Runs pixel operations over one image: decoded once, written as often as wanted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyvips

from app.errors import CorruptImage, ImageTooLarge, InvalidUpload, WorkspaceFailed
from app.imaging import resize
from app.imaging.colour import to_eight_bits, to_srgb
from app.imaging.contract import fulfil
from app.imaging.probe import probe
from app.imaging.recipe import INTERMEDIATE, Limits, Monitor, Rendered, Stage, StageMonitor, Target
from app.operations import OPERATIONS, RESIZE

__all__ = ["INTERMEDIATE", "Limits", "Rendered", "Stage", "Target", "render"]

# Anything less lets a damaged JPEG pass as a picture: its decoder only ever warns about wrong pixel data and goes on
# in grey. What harmless files do (unknown TIFF tags, broken profiles, bytes after the end) does not count as a warning.
# Damage that shows in the last eight lines only still passes, because libvips looks for warnings before it reads on.
FAIL_ON = "warning"

# By name: libvips would not recognise an AVIF sequence, and must not think of another format than `probe` does.
LOADERS = {
    "jpeg": "jpegload_source",
    "png": "pngload_source",
    "webp": "webpload_source",
    "gif": "gifload_source",
    "tiff": "tiffload_source",
    "avif": "heifload_source",
}
# Not by `thumbnail`: it ignores `fail_on` with a stream, and shrinks in the decoder only half as far as it could.
SHRINKING: dict[str, Callable[[int], dict[str, float]]] = {
    "jpeg": lambda shrink: {"shrink": shrink},
    "webp": lambda shrink: {"scale": 1 / shrink},
}

SIDEWAYS = range(5, 9)  # EXIF orientations with width and height exchanged


def render(
    source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, monitor: Monitor | None = None
) -> list[Rendered]:
    """Apply the stages to an image and write every target, with upright sRGB pixels and without metadata.

    Of an animation or a document, the first frame counts. Stages that encode do nothing: pixels flow through them
    unchanged, and what is written is up to the targets. A failed call may leave files behind.

    Raises:
        CorruptImage: the source cannot be decoded.
        ImageTooLarge: the source or the result exceeds the limits.
        ContractUnreachable: no quality of an encoder keeps what was asked of the file.
        WorkspaceFailed: disk or memory ran out; nothing is known about the image.
    """
    monitor = monitor or Monitor()
    with _decoding():
        # All pixels are decoded before the first is encoded: whatever fails until here is due to the source, whatever
        # fails later is not, and several targets share the work.
        image = _pixels(source, stages, limits, monitor).copy_memory()
    last = StageMonitor(monitor, len(stages) - 1)
    return [_write(image, target, last) for target in targets]


def _is_pixel(stage: Stage) -> bool:
    return OPERATIONS[stage.op].format is None


def _pixels(source: Path, stages: Sequence[Stage], limits: Limits, monitor: Monitor) -> pyvips.Image:
    kind = _format(source)
    image = _load(source, kind)
    _check(image, limits)
    numbered = [(number, stage) for number, stage in enumerate(stages) if _is_pixel(stage)]
    steps = [_step(stage, StageMonitor(monitor, number)) for number, stage in numbered]
    first = numbered[0][1] if numbered else None
    if first and first.op == RESIZE.name:
        params = _params(first)
        geometry = resize.measure(*_upright_size(image), params)
        image = _load(source, kind, geometry.shrink)
        steps[0] = partial(resize.apply, geometry=geometry, params=params)
    image = to_srgb(_upright(image), deep=all(OPERATIONS[stage.op].deep for _, stage in numbered))
    for step in steps:
        image = step(image)
        _check(image, limits)
    return image


def _format(source: Path) -> str:
    with source.open("rb") as file:
        return probe(file).format


def _load(source: Path, kind: str, shrink: int = 1) -> pyvips.Image:
    """The image, yet to be decoded; divided by `shrink` where the format's decoder can do that."""
    options = SHRINKING[kind](shrink) if kind in SHRINKING else {}
    stream = pyvips.Source.new_from_file(str(source))  # unlike an image's name, this holds no options
    return pyvips.Operation.call(LOADERS[kind], stream, access="sequential", fail_on=FAIL_ON, **options)


def _upright(image: pyvips.Image) -> pyvips.Image:
    if _orientation(image) == 1:
        return image
    return image.copy_memory().autorot()  # a turned image is read in another order than it is decoded


def _orientation(image: pyvips.Image) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def _upright_size(image: pyvips.Image) -> tuple[int, int]:
    return (image.height, image.width) if _orientation(image) in SIDEWAYS else (image.width, image.height)


def _check(image: pyvips.Image, limits: Limits) -> None:
    pixels, side = image.width * image.height, max(image.width, image.height)
    if pixels > limits.pixels:
        raise ImageTooLarge(
            f"The image has {pixels} pixels; the limit is {limits.pixels}.", limit=limits.pixels, value=pixels
        )
    if side > limits.side:
        raise ImageTooLarge(
            f"The image is {side} pixels long; the limit is {limits.side}.", limit=limits.side, value=side
        )


@cache
def _handler(op: str) -> Callable[..., Any]:
    module, _, function = OPERATIONS[op].handler.partition(":")
    handler: Callable[..., Any] = getattr(import_module(module), function)
    return handler


def _step(stage: Stage, monitor: StageMonitor) -> Callable[[pyvips.Image], pyvips.Image]:
    handler, params = _handler(stage.op), _params(stage)
    return lambda image: handler(image, params, monitor)


def _params(step: Stage | Target) -> Any:
    return OPERATIONS[step.op].params.model_validate(step.params)


def _write(image: pyvips.Image, target: Target, monitor: StageMonitor) -> Rendered:
    with _encoding():
        written = _save(image, target, monitor)
    return Rendered(written, image.width, image.height)


def _save(image: pyvips.Image, target: Target, monitor: StageMonitor) -> str:
    """Write one file and return its format."""
    if target.op == INTERMEDIATE:
        _save_intermediate(image, target.path)
        return "tiff"
    operation = OPERATIONS[target.op]
    if operation.format is None:
        raise ValueError(f"{target.op} has no output format")
    image = image if operation.deep else to_eight_bits(image)
    save, params = _handler(target.op), _params(target)
    if params.is_open:
        save(image, params, target.path)
    else:
        monitor.report(**fulfil(image, params, target.path, save, partial(_load, kind=operation.format)))
    return operation.format


def _save_intermediate(image: pyvips.Image, path: Path) -> None:
    # Measured on a photograph of 12 megapixels, to write and to read: uncompressed 36 MB in 55 ms, deflate level 1
    # 27 MB in 470 ms, deflate level 6 18 MB in 890 ms, LZW 20 MB in 735 ms, PNG level 1 26 to 31 MB in 555 ms, lossless
    # WebP 13 MB in 8.6 s. Compression would pay only on a store that moves less than 43 MB a second.
    image.tiffsave(str(path), compression="none", keep="none")


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except InvalidUpload as error:
        raise CorruptImage(error.message) from error
    except OSError as error:
        raise WorkspaceFailed from error
    except pyvips.Error as error:
        if _is_out_of_memory(error):
            raise WorkspaceFailed from error
        raise CorruptImage from error


@contextmanager
def _encoding() -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        raise WorkspaceFailed from error


def _is_out_of_memory(error: pyvips.Error) -> bool:
    return "out of memory" in str(error)
