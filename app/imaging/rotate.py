"""Rotate."""

import pyvips

from app.imaging.colour import with_background
from app.imaging.recipe import StageMonitor
from app.parameters import RotateParams

QUARTER = 90  # degrees


def run(image: pyvips.Image, params: RotateParams, _monitor: StageMonitor | None = None) -> pyvips.Image:
    """Turn an image clockwise."""
    angle = params.angle % 360
    if angle == 0:
        return image
    image = image.copy_memory()  # read in another order than it is decoded
    if angle % QUARTER == 0:
        return image.rot(f"d{int(angle)}")
    image, background = with_background(image, params.background)
    # Transparent pixels must not colour their neighbours
    transparent = image.hasalpha()
    turned = image.premultiply() if transparent else image
    if transparent:
        share = background[-1] / (65535 if image.format == "ushort" else 255)
        background = [value * share for value in background[:-1]] + background[-1:]
    turned = turned.rotate(angle, background=background)
    return (turned.unpremultiply() if transparent else turned).cast(image.format)
