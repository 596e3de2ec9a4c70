"""Blur."""

import pyvips

from app.imaging.recipe import StageMonitor
from app.parameters import BlurParams

CUT_OFF = 0.02  # share of the kernel's peak; libvips' own 0.2 leaves a visible edge


def run(image: pyvips.Image, params: BlurParams, _monitor: StageMonitor | None = None) -> pyvips.Image:
    """Blur an image; transparent pixels do not colour their neighbours."""
    if not image.hasalpha():
        return image.gaussblur(params.sigma, min_ampl=CUT_OFF)
    return image.premultiply().gaussblur(params.sigma, min_ampl=CUT_OFF).unpremultiply().cast(image.format)
