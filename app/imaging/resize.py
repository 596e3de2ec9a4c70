"""Resize."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyvips

from app.imaging import gravity
from app.imaging.colours.colour import GREY_BANDS, with_background, with_weighed_colours
from app.imaging.recipe import Context
from app.parameters import ResizeParams

SHRINKS = (8, 4, 2)  # what JPEG decoders can divide by, at a fraction of the work


@dataclass(frozen=True)
class Geometry:
    """What a resize makes of an image: scaled as a whole, then cut or padded."""

    #: the whole image
    scaled: tuple[int, int]
    #: what is kept of it
    size: tuple[int, int]
    #: what it is padded to
    canvas: tuple[int, int]
    #: the largest division while decoding that leaves at least as many pixels as are wanted
    shrink: int


def measure(width: int, height: int, params: ResizeParams) -> Geometry:
    """The geometry for an image of this size."""
    scale = _scale(width, height, params)
    scaled = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
    size = canvas = scaled
    if params.fit == "cover":
        size = canvas = min(scaled[0], params.width or scaled[0]), min(scaled[1], params.height or scaled[1])
    elif params.fit == "contain":
        canvas = max(scaled[0], params.width or scaled[0]), max(scaled[1], params.height or scaled[1])
    # decoders average without linear light
    shrinks = () if params.linear else SHRINKS
    fitting = (shrink for shrink in shrinks if width // shrink >= scaled[0] and height // shrink >= scaled[1])
    return Geometry(scaled, size, canvas, next(fitting, 1))


def _scale(width: int, height: int, params: ResizeParams) -> tuple[float, float]:
    horizontal = params.width / width if params.width else None
    vertical = params.height / height if params.height else None
    wanted = [scale for scale in (horizontal, vertical) if scale is not None]
    if params.fit != "fill" or len(wanted) == 1:
        wanted = [min(wanted) if params.fit in {"inside", "contain"} else max(wanted)] * 2
    if not params.enlarge:
        wanted = [min(scale, 1.0) for scale in wanted]
    return wanted[0], wanted[1]


def run(image: pyvips.Image, params: ResizeParams, _context: Context | None = None) -> pyvips.Image:
    """Resize an image."""
    return apply(image, measure(image.width, image.height, params), params)


def on_load(
    size: tuple[int, int], params: ResizeParams
) -> tuple[int, Callable[[Sequence[pyvips.Image]], list[pyvips.Image]]]:
    """By what the decoder may divide an image of this size, and what is left to be done with what it gives."""
    geometry = measure(*size, params)
    return geometry.shrink, lambda frames: [apply(frame, geometry, params) for frame in frames]


def run_frames(frames: Sequence[pyvips.Image], params: ResizeParams, _context: Context) -> list[pyvips.Image]:
    """Resize an animation; what is kept is decided on its first frame, so that nothing jumps."""
    geometry = measure(frames[0].width, frames[0].height, params)
    if geometry.size != geometry.scaled:
        params = gravity.settled(frames[0], _part(frames[0], geometry), params)
    return [apply(frame, geometry, params) for frame in frames]


def apply(image: pyvips.Image, geometry: Geometry, params: ResizeParams) -> pyvips.Image:
    """Resize an image that may already be smaller than the one that was measured."""
    if geometry.size != geometry.scaled:
        image = _cut(image, geometry, params)
    image = _scaled(image, geometry.size, linear=params.linear)
    return image if geometry.canvas == geometry.size else _pad(image, geometry.canvas, params)


def _cut(image: pyvips.Image, geometry: Geometry, params: ResizeParams) -> pyvips.Image:
    # Cut before scaling: the whole of an enlarged panorama may be many times larger than the part that is kept.
    return gravity.cut(image, _part(image, geometry), params)


def _part(image: pyvips.Image, geometry: Geometry) -> tuple[int, int]:
    """Width and height of what is kept of an image, before it is scaled."""
    width, height = (
        max(1, round(side * size / scaled))
        for side, size, scaled in zip((image.width, image.height), geometry.size, geometry.scaled, strict=True)
    )
    return width, height


def _scaled(image: pyvips.Image, size: tuple[int, int], *, linear: bool) -> pyvips.Image:
    if linear and image.bands <= GREY_BANDS:
        return _grey_of(_scaled(image.colourspace("rgb16" if image.format == "ushort" else "srgb"), size, linear=True))
    if image.format == "uchar":
        return image.thumbnail_image(size[0], height=size[1], size="force", linear=linear)
    # the same by hand, because `thumbnail` ends with 8 bits
    space, kind = image.interpretation, image.format
    if linear:
        image = image.colourspace("scrgb")
    across, down = size[0] / image.width, size[1] / image.height
    image = with_weighed_colours(image, lambda weighed: weighed.resize(across, vscale=down))
    return image.copy(interpretation="scrgb" if linear else space).colourspace(space).cast(kind)


def _grey_of(image: pyvips.Image) -> pyvips.Image:
    """One of three equal channels, and alpha: libvips knows of no linear light in grey."""
    grey = image.extract_band(0).copy(interpretation="grey16" if image.format == "ushort" else "b-w")
    return grey.bandjoin(image.extract_band(3)) if image.hasalpha() else grey


def _pad(image: pyvips.Image, canvas: tuple[int, int], params: ResizeParams) -> pyvips.Image:
    image, background = with_background(image, params.background)
    corner = gravity.offset((canvas[0] - image.width, canvas[1] - image.height), params.gravity)
    return image.embed(*corner, *canvas, extend="background", background=background)
