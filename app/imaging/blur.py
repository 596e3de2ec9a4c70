"""Blur."""

import pyvips

from app.imaging.recipe import StageMonitor
from app.parameters import BlurParams

CUT_OFF = 0.02  # share of the kernel's peak; libvips' own 0.2 leaves a visible edge


def run(image: pyvips.Image, params: BlurParams, _monitor: StageMonitor | None = None) -> pyvips.Image:
    """Blur an image; transparent pixels do not colour their neighbours."""
    blurred = image.premultiply() if image.hasalpha() else image
    # In integers, libvips' kernel does not add up to one: a white pixel came out as 247
    blurred = blurred.gaussblur(params.sigma, min_ampl=CUT_OFF, precision="float")
    if image.hasalpha():
        blurred = blurred.unpremultiply()
    return blurred.rint().cast(image.format).copy(interpretation=image.interpretation)
