"""Resize."""

from dataclasses import dataclass

import pyvips

from app.imaging.recipe import StageMonitor
from app.operations import ResizeParams

SHRINKS = (8, 4, 2)  # what JPEG decoders can divide by, at a fraction of the work


@dataclass(frozen=True)
class Geometry:
    """What a resize makes of an image: scaled as a whole, then cut at the centre."""

    #: the whole image
    scaled: tuple[int, int]
    #: what is kept of it
    size: tuple[int, int]
    #: the largest division while decoding that leaves at least as many pixels as are wanted
    shrink: int


def measure(width: int, height: int, params: ResizeParams) -> Geometry:
    """The geometry for an image of this size."""
    scale = _scale(width, height, params)
    scaled = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
    size = scaled
    if params.fit == "cover":
        size = min(scaled[0], params.width or scaled[0]), min(scaled[1], params.height or scaled[1])
    shrinks = (shrink for shrink in SHRINKS if width // shrink >= scaled[0] and height // shrink >= scaled[1])
    return Geometry(scaled, size, next(shrinks, 1))


def _scale(width: int, height: int, params: ResizeParams) -> tuple[float, float]:
    horizontal = params.width / width if params.width else None
    vertical = params.height / height if params.height else None
    wanted = [scale for scale in (horizontal, vertical) if scale is not None]
    if params.fit != "fill" or len(wanted) == 1:
        wanted = [min(wanted) if params.fit == "inside" else max(wanted)] * 2
    if not params.enlarge:
        wanted = [min(scale, 1.0) for scale in wanted]
    return wanted[0], wanted[1]


def run(image: pyvips.Image, params: ResizeParams, _monitor: StageMonitor | None = None) -> pyvips.Image:
    """Resize an image."""
    return apply(image, measure(image.width, image.height, params))


def apply(image: pyvips.Image, geometry: Geometry) -> pyvips.Image:
    """Resize an image that may already be smaller than the one that was measured."""
    # Cut before scaling: the whole of an enlarged panorama may be many times larger than the part that is kept.
    width, height = (
        max(1, round(side * size / scaled))
        for side, size, scaled in zip((image.width, image.height), geometry.size, geometry.scaled, strict=True)
    )
    part = image.crop((image.width - width) // 2, (image.height - height) // 2, width, height)
    return part.thumbnail_image(geometry.size[0], height=geometry.size[1], size="force")
