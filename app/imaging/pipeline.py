"""Runs pixel operations on one image, which is decoded once and written to any number of files."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyvips

from app import disk
from app.errors import (
    CorruptImage,
    ImageNotEncoded,
    ImageTooLarge,
    InvalidUpload,
    PixToolsError,
    UnsupportedImage,
    WorkspaceFailed,
    WorkspaceFull,
)
from app.formats import FORMATS
from app.imaging.colours.colour import GREY_BANDS, PROFILE, to_eight_bits, to_srgb, to_working
from app.imaging.convert_jpeg import flattened
from app.imaging.decoding.decode import ImageFile
from app.imaging.fitting import is_out_of_memory
from app.imaging.geometry import Size
from app.imaging.metadata.losses import Result, losses
from app.imaging.metadata.origin import Origin, bare
from app.imaging.picture import Picture
from app.imaging.recipe import INTERMEDIATE, Context, Limits, Monitor, Rendered, Stage, Target, When
from app.imaging.writing import write
from app.operations import OPERATIONS, Operation
from app.parameters import KeepMetadata
from app.references import resolve

__all__ = ["INTERMEDIATE", "Limits", "Rendered", "Stage", "Target", "render"]

NOT_DECODED = ("is not configured", "not implemented", "unsupported")  # excerpts from messages of libvips and codecs
NO_DECODER = "The image is coded in a way that no decoder of this server knows."
log = logging.getLogger(__name__)

CHEAP_PIXELS = 4_000_000  # limit over all files of a task; to encode more, a separate task on another core pays

#: excerpts from libvips' messages when a file cannot be written: the disk is full or gone
NOT_WRITTEN = ("unable to open for write", ": write error")

Step = Callable[[Sequence[pyvips.Image]], list[pyvips.Image]]


def render(
    source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, monitor: Monitor | None = None
) -> list[Rendered | None]:
    """Apply the stages to an image and write every target: upright, and by default in sRGB and without metadata.

    An animation stays animated if every stage and the target support frames. Otherwise only its first frame is used,
    and the last stage reports that; of a document, the first page is used. Stages that encode do nothing: the pixels
    pass through unchanged, and the targets determine the files. A failed call may leave files behind.

    Returns:
        The written files, target by target; None for a target that was left out.

    Raises:
        CorruptImage: the source cannot be decoded.
        UnsupportedImage: the source is valid, but there is no decoder for it.
        ImageTooLarge: the source or the result exceeds the limits.
        TargetUnreachable: no quality of an encoder meets the target.
        ImageNotEncoded: an encoder refuses the image.
        WorkspaceFailed: disk space (`WorkspaceFull`) or memory ran out, for which the image may not be the reason.
    """
    monitor = monitor or Monitor()
    with _decoding():
        picture = _picture(source, stages, targets, limits, monitor)
    written: list[Rendered | None] = []
    for target in targets:
        context = Context(monitor, len(stages) - 1 if target.stage is None else target.stage)
        written.append(_write(picture, target, context) if _is_wanted(picture, target, written) else None)
    return written


def _picture(
    source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, monitor: Monitor
) -> Picture:
    file = ImageFile.open(source)
    _check(file.header.width, file.header.height, limits)  # has to precede any use of a codec
    numbered = [(number, stage) for number, stage in enumerate(stages) if OPERATIONS[stage.op].format is None]
    steps = [_step(stage, Context(monitor, number, stage.files)) for number, stage in numbered]
    size = None
    if file.frames > 1 and _stays_animated([stage for _, stage in numbered], targets):
        _check(*file.size, limits, frames=file.frames)
        frames = file.read_all()
    else:
        _check(*file.size, limits)
        shrink, first = _on_load(file.size, stages)
        if first is not None:
            steps[0] = first
        elif shrink > 1:
            size = file.size
        frames = [file.read(shrink)]
    monitor.used["pixels"] = file.header.width * file.header.height * len(frames)
    deep = all(OPERATIONS[stage.op].deep for _, stage in numbered)
    frames = [to_working(frame, deep=deep) for frame in frames]
    for step in steps:
        frames = step(frames)
        _check(frames[0].width, frames[0].height, limits, frames=len(frames))
    # All pixels are decoded before the first is encoded: an error up to here is due to the source, a later one is not,
    # and several targets share the decoding.
    in_memory = tuple(frame.copy_memory() for frame in frames)
    return Picture(in_memory, file.origin, size or (in_memory[0].width, in_memory[0].height))


def _on_load(size: Size, stages: Sequence[Stage]) -> tuple[int, Step | None]:
    """The factor by which the decoder shrinks an image, and what remains of the first stage; None: the target does it.

    If the first stage is an encoder, the factor is 1, as it would be if the encoder had a task of its own.
    """
    if not stages or not (on_load := OPERATIONS[stages[0].op].on_load):
        return 1, None
    found: tuple[int, Step | None] = resolve(on_load)(size, _params(stages[0]))
    return found


def _stays_animated(stages: Sequence[Stage], targets: Sequence[Target]) -> bool:
    wanted = any(target.op == INTERMEDIATE or OPERATIONS[target.op].animated for target in targets)
    return wanted and all(OPERATIONS[stage.op].animated for stage in stages)


def _check(width: int, height: int, limits: Limits, frames: int = 1) -> None:
    pixels, side = width * height * frames, max(width, height)
    if pixels > limits.pixels:
        of_frames = f" in {frames} frames" if frames > 1 else ""
        raise ImageTooLarge(
            f"The image has {pixels} pixels{of_frames}; the limit is {limits.pixels}.",
            limit=limits.pixels,
            value=pixels,
        )
    if side > limits.side:
        raise ImageTooLarge(
            f"The image is {side} pixels long; the limit is {limits.side}.", limit=limits.side, value=side
        )


def _step(stage: Stage, context: Context) -> Step:
    operation, params = OPERATIONS[stage.op], _params(stage)

    def step(frames: Sequence[pyvips.Image]) -> list[pyvips.Image]:
        if len(frames) > 1 and operation.frames_handler:
            done = resolve(operation.frames_handler)(frames, params, context)
        else:
            done = [resolve(operation.handler)(frame, params, context) for frame in frames]
        return [_in_colours_of(frame, image) for frame, image in zip(frames, done, strict=True)]

    return step


def _in_colours_of(before: pyvips.Image, image: pyvips.Image) -> pyvips.Image:
    """The image with the profile of the one before, which still applies, in case an operation has dropped it."""
    turned_grey = image.bands <= GREY_BANDS < before.bands  # now sRGB grey, to which the profile does not apply
    if before.get_typeof(PROFILE) and not image.get_typeof(PROFILE) and not turned_grey:
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, PROFILE, before.get(PROFILE))
    return image


def _params(step: Stage | Target) -> Any:
    return OPERATIONS[step.op].params.model_validate(step.params)


def _is_wanted(picture: Picture, target: Target, written: Sequence[Rendered | None]) -> bool:
    if target.when is When.CHEAP:
        pixels: int = picture.first.width * picture.first.height * len(picture.frames)
        return pixels * (len(written) + 1) <= CHEAP_PIXELS
    return target.when is When.ALWAYS or None in written


def _write(picture: Picture, target: Target, context: Context) -> Rendered | None:
    try:
        with _encoding():
            return _save(picture, target, context)
    except PixToolsError:
        if target.when is When.CHEAP:
            return None
        raise


def _save(picture: Picture, target: Target, context: Context) -> Rendered:
    size = picture.first.width, picture.first.height
    if target.op == INTERMEDIATE:
        _save_intermediate(picture, target.path)
        return Rendered("tiff", *size)
    operation = OPERATIONS[target.op]
    if operation.format is None:
        raise ValueError(f"{target.op} has no output format")
    params = _params(target)
    if operation.bundle:
        parts = resolve(operation.handler)(picture, params, target, context)
        return Rendered(operation.format, None, None, parts)
    if not operation.gives_image:
        described = resolve(operation.handler)(picture, params)
        target.path.write_text(json.dumps(described, ensure_ascii=False, indent=2))
        return Rendered(operation.format, None, None)
    frames = len(picture.frames) if operation.animated else 1
    image = picture.strip() if frames > 1 else picture.first
    keep: KeepMetadata = getattr(params, "keep_metadata", "none")
    bits = 16 if operation.deep and image.format == "ushort" else 8
    result = Result(operation.format, keep, frames, animated=operation.animated, bits=bits)
    lost = losses(picture.origin, image, result)
    image = _as_asked(picture.origin, image, operation, params, keep)
    written = write(image, operation, params, target.path, frames=frames)
    if written.measured:
        context.report(**written.measured)
    if written.is_frugal:
        lost["chroma"] = {"reason": "memory"}
    if lost:
        context.report(lost=lost)
    return Rendered(operation.format, *size)


def _as_asked(
    origin: Origin, image: pyvips.Image, operation: Operation, params: Any, keep: KeepMetadata
) -> pyvips.Image:
    """The image with the colours, the depth and the metadata that the target asks for."""
    image = image if keep in {"icc", "all"} else to_srgb(image)
    image = image if operation.deep else to_eight_bits(image)
    image = origin.onto(image, keep, str(operation.format))
    # flattened here, since the written file is compared with this image
    return image if FORMATS[str(operation.format)].alpha else flattened(image, params)


def _save_intermediate(picture: Picture, path: Path) -> None:
    # Measured on a photograph of 12 megapixels, to write and to read: uncompressed 36 MB in 55 ms, deflate level 1
    # 27 MB in 470 ms, deflate level 6 18 MB in 890 ms, LZW 20 MB in 735 ms, PNG level 1 26 to 31 MB in 555 ms, lossless
    # WebP 13 MB in 8.6 s. Compression would pay only on a store that moves less than 43 MB a second.
    strip = picture.origin.described_by(bare(picture.strip(), but=PROFILE))
    strip.tiffsave(str(path), compression="none", keep="icc:other")


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except UnsupportedImage:
        raise
    except InvalidUpload as error:
        raise CorruptImage(error.message) from error
    except OSError as error:
        raise _workspace(error) from error
    except pyvips.Error as error:
        if is_out_of_memory(error) or disk.is_full(error):
            raise _workspace(error) from error
        if _is_unknown_kind(error):
            raise UnsupportedImage(NO_DECODER) from error
        raise CorruptImage from error


@contextmanager
def _encoding() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _workspace(error) from error
    except pyvips.Error as error:
        if is_out_of_memory(error, encoding=True) or disk.is_full(error) or _is_not_written(error):
            raise _workspace(error) from error
        log.warning("an encoder refused an image: %s", error)
        raise ImageNotEncoded from error


def _is_not_written(error: pyvips.Error) -> bool:
    return any(words in str(error) for words in NOT_WRITTEN)


def _workspace(error: Exception) -> WorkspaceFailed:
    return WorkspaceFull() if disk.is_full(error) else WorkspaceFailed()


def _is_unknown_kind(error: pyvips.Error) -> bool:
    text = str(error).lower()
    return any(words in text for words in NOT_DECODED)
