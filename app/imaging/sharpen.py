"""Sharpen."""

import pyvips

from app.imaging.recipe import Context
from app.parameters import SharpenParams


def run(image: pyvips.Image, params: SharpenParams, _context: Context | None = None) -> pyvips.Image:
    """Sharpen the lightness of an image; alpha is unchanged."""
    sharp = image.sharpen(sigma=params.sigma, m1=params.flat, m2=params.edges)
    return sharp.colourspace(image.interpretation).cast(image.format)
