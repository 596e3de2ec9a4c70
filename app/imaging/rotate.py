"""Rotate."""

import pyvips

from app.imaging.colours.colour import full_scale, with_background, with_weighed_colours
from app.imaging.geometry import QUARTER, turn
from app.imaging.recipe import Context
from app.parameters import RotateParams


def run(image: pyvips.Image, params: RotateParams, _context: Context | None = None) -> pyvips.Image:
    """Rotate an image clockwise."""
    angle = turn(params)
    if angle == 0:
        return image
    image = image.copy_memory()  # rotation reads pixels in another order than the decoder yields them
    if angle % QUARTER == 0:
        return image.rot(f"d{int(angle)}")
    image, background = with_background(image, params.background)
    if image.hasalpha():
        share = background[-1] / full_scale(image)
        background = [value * share for value in background[:-1]] + background[-1:]
    return with_weighed_colours(image, lambda weighed: weighed.rotate(angle, background=background)).cast(image.format)
