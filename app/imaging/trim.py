"""Trim."""

import pyvips

from app.imaging.colour import OPAQUE, full_scale, with_background
from app.imaging.recipe import StageMonitor
from app.parameters import TrimParams


def run(image: pyvips.Image, params: TrimParams, monitor: StageMonitor | None = None) -> pyvips.Image:
    """Cut off a border of one colour; an image that is nothing else stays as it is. Reports what is kept."""
    image = image.copy_memory()  # looked at before it is cut
    left, top, width, height = _found(image, params)
    if width == 0 or height == 0:
        left, top, width, height = 0, 0, image.width, image.height
    if monitor:
        monitor.report(left=left, top=top, width=width, height=height)
    return image.crop(left, top, width, height)


def _found(image: pyvips.Image, params: TrimParams) -> tuple[int, ...]:
    """Left, top, width and height of what differs from the border."""
    background = None
    if params.background is not None:
        image, background = with_background(image, params.background)
    if image.hasalpha():
        # Alpha counts like one more colour, and what cannot be seen has none. As an image that knows of no alpha,
        # because libvips would lay it over the background.
        image = image.premultiply().cast(image.format).copy(interpretation="multiband")
    threshold = params.threshold * full_scale(image) / OPAQUE
    return tuple(image.find_trim(threshold=threshold, background=background or image.getpoint(0, 0)))
