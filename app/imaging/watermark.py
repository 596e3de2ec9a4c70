"""Watermark: another image, or a line of text, laid over an image."""

from collections.abc import Sequence
from pathlib import Path

import pyvips

from app.errors import CorruptImage, ImageTooLarge, InvalidUpload
from app.imaging import gravity, lettering
from app.imaging.colours.colour import GREY_BANDS, from_srgb, full_scale, to_srgb, to_working
from app.imaging.decoding.decode import ImageFile
from app.imaging.recipe import Context
from app.parameters import WatermarkParams

MAX_PIXELS = 25_000_000  # limit for the overlay image


def run(image: pyvips.Image, params: WatermarkParams, context: Context) -> pyvips.Image:
    """Lay a mark over an image. Colours are blended as stored, not in linear light, as most programs do.

    Raises:
        CorruptImage: the mark cannot be decoded.
        ImageTooLarge: the mark has too many pixels.
        GlyphMissing, InvisibleText, CorruptFont: see `lettering`.
    """
    return run_frames([image], params, context)[0]


def run_frames(frames: Sequence[pyvips.Image], params: WatermarkParams, context: Context) -> list[pyvips.Image]:
    """Lay a mark over all frames of an animation. It is drawn once, since they have equal sizes."""
    width, height = frames[0].width, frames[0].height
    margin = round(min(width, height) * params.margin)
    room = max(1, width - 2 * margin), max(1, height - 2 * margin)
    box = max(1, min(room[0], round(width * params.scale))), room[1]
    mark = _picture(context.files["image"], box) if params.text is None else _text(params, box, context)
    return [_marked(frame, mark, margin, params) for frame in frames]


def _marked(image: pyvips.Image, mark: pyvips.Image, margin: int, params: WatermarkParams) -> pyvips.Image:
    grey = image.bands <= GREY_BANDS
    if grey and not _is_grey(mark):
        image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
    mark = _alike(mark, image, params.opacity)
    if params.repeat:
        return _laid_over(image, _repeated(mark, image, margin), 0, 0)
    free = image.width - mark.width - 2 * margin, image.height - mark.height - 2 * margin
    left, top = gravity.offset((max(0, free[0]), max(0, free[1])), params.gravity)
    return _laid_over(image, mark, left + margin, top + margin)


def _text(params: WatermarkParams, box: tuple[int, int], context: Context) -> pyvips.Image:
    """The text as an sRGB image with alpha."""
    mask = lettering.mask_of(params.text or "", box, context.files.get("font"))
    *rgb, alpha = bytes.fromhex(params.colour.removeprefix("#").ljust(8, "f"))
    colour = (pyvips.Image.black(mask.width, mask.height, bands=3) + rgb).cast("uchar")
    return colour.bandjoin((mask * (alpha / 255)).rint().cast("uchar")).copy(interpretation="srgb")


def _picture(path: Path, box: tuple[int, int]) -> pyvips.Image:
    """The stored image in sRGB with alpha, scaled up or down to fit the box."""
    try:
        file = ImageFile.open(path)
    except InvalidUpload as error:
        raise CorruptImage(f"The watermark is not an image: {error.message}") from error
    width, height = file.header.width, file.header.height
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"The watermark has {width * height} pixels; the limit is {MAX_PIXELS}.",
            limit=MAX_PIXELS,
            value=width * height,
        )
    mark = to_srgb(to_working(file.read())).colourspace("srgb").copy_memory()
    mark = mark if mark.hasalpha() else mark.addalpha()
    return mark.thumbnail_image(box[0], height=box[1])


def _is_grey(mark: pyvips.Image) -> bool:
    red, green, blue = (mark.extract_band(band) for band in range(3))
    return float(((red - green).abs() + (green - blue).abs()).max()) == 0


def _alike(mark: pyvips.Image, image: pyvips.Image, opacity: float) -> pyvips.Image:
    """The mark in the colours and depth of the image, with alpha."""
    colours, alpha = mark.extract_band(0, n=3), mark.extract_band(3)
    colours = from_srgb(colours.copy(interpretation="srgb"), image)
    scale = full_scale(image) / 255
    if image.format == "ushort":
        colours = (colours * scale).cast("ushort")
    colours = colours.extract_band(0, n=1 if image.bands <= GREY_BANDS else 3)
    alpha = (alpha * (scale * opacity)).rint().cast(image.format)
    return colours.bandjoin(alpha).copy(interpretation=image.interpretation)


def _repeated(mark: pyvips.Image, image: pyvips.Image, margin: int) -> pyvips.Image:
    """The mark repeated over the whole size of the image, with a margin between copies."""
    tile = mark.embed(0, 0, mark.width + margin, mark.height + margin)
    across, down = -(-image.width // tile.width), -(-image.height // tile.height)
    return tile.replicate(across, down).crop(0, 0, image.width, image.height)


def _laid_over(image: pyvips.Image, mark: pyvips.Image, left: int, top: int) -> pyvips.Image:
    """Compose the mark over the image (Porter and Duff's `over`); an opaque image stays without alpha."""
    mixed = image.composite2(mark, "over", x=left, y=top, compositing_space=image.interpretation)
    return mixed.extract_band(0, n=image.bands).cast(image.format).copy(interpretation=image.interpretation)
