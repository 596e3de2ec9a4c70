"""Resize."""

from collections.abc import Callable, Sequence

import pyvips

from app.imaging import gravity
from app.imaging.colours.colour import GREY_BANDS, with_background, with_weighed_colours
from app.imaging.geometry import Geometry, measure
from app.imaging.recipe import Context
from app.parameters import ResizeParams


def run(image: pyvips.Image, params: ResizeParams, _context: Context | None = None) -> pyvips.Image:
    """Resize an image."""
    return apply(image, measure(image.width, image.height, params), params)


def on_load(
    size: tuple[int, int], params: ResizeParams
) -> tuple[int, Callable[[Sequence[pyvips.Image]], list[pyvips.Image]]]:
    """The factor by which the decoder may shrink an image of this size, and the function that does the rest."""
    geometry = measure(*size, params)
    return geometry.shrink, lambda frames: [apply(frame, geometry, params) for frame in frames]


def run_frames(frames: Sequence[pyvips.Image], params: ResizeParams, _context: Context) -> list[pyvips.Image]:
    """Resize an animation; all frames are cut to the area chosen in the first one, so that nothing jumps."""
    geometry = measure(frames[0].width, frames[0].height, params)
    if geometry.size != geometry.scaled:
        params = gravity.settled(frames[0], _part(frames[0], geometry), params)
    return [apply(frame, geometry, params) for frame in frames]


def apply(image: pyvips.Image, geometry: Geometry, params: ResizeParams) -> pyvips.Image:
    """Resize an image, which the decoder may have shrunk since its geometry was measured."""
    if geometry.size != geometry.scaled:
        image = _cut(image, geometry, params)
    image = _scaled(image, geometry.size, linear=params.linear)
    return image if geometry.canvas == geometry.size else _pad(image, geometry.canvas, params)


def _cut(image: pyvips.Image, geometry: Geometry, params: ResizeParams) -> pyvips.Image:
    # Cut before scaling: the whole of an enlarged panorama may be many times larger than the part that is kept.
    return gravity.cut(image, _part(image, geometry), params)


def _part(image: pyvips.Image, geometry: Geometry) -> tuple[int, int]:
    """Width and height of the part of an image that is kept, before scaling."""
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
    """One of three equal channels, and alpha: libvips has no linear grey, so grey images are resized in RGB."""
    grey = image.extract_band(0).copy(interpretation="grey16" if image.format == "ushort" else "b-w")
    return grey.bandjoin(image.extract_band(3)) if image.hasalpha() else grey


def _pad(image: pyvips.Image, canvas: tuple[int, int], params: ResizeParams) -> pyvips.Image:
    image, background = with_background(image, params.background)
    corner = gravity.offset((canvas[0] - image.width, canvas[1] - image.height), params.gravity)
    return image.embed(*corner, *canvas, extend="background", background=background)
