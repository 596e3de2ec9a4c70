"""Blur."""

import pyvips

from app.imaging.colour import with_weighed_colours
from app.imaging.recipe import Context
from app.parameters import BlurParams

CUT_OFF = 0.02  # share of the kernel's peak; libvips' own 0.2 leaves a visible edge


def run(image: pyvips.Image, params: BlurParams, _context: Context | None = None) -> pyvips.Image:
    """Blur an image; transparent pixels do not colour their neighbours."""
    # In integers, libvips' kernel does not add up to one: a white pixel came out as 247
    blurred = with_weighed_colours(
        image, lambda weighed: weighed.gaussblur(params.sigma, min_ampl=CUT_OFF, precision="float")
    )
    return blurred.rint().cast(image.format).copy(interpretation=image.interpretation)
