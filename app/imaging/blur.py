"""Blur."""

import math

import pyvips

from app.imaging.colours.colour import with_weighed_colours
from app.imaging.recipe import Context
from app.parameters import BlurParams

CUT_OFF = 0.02  # share of the kernel's peak; libvips' own 0.2 leaves a visible edge
ENOUGH = 6  # pixels of sigma: a stronger blur is made on a smaller image, and differs by less than a step of 8 bit


def run(image: pyvips.Image, params: BlurParams, _context: Context | None = None) -> pyvips.Image:
    """Blur an image; transparent pixels do not colour their neighbours."""
    blurred = with_weighed_colours(image, lambda weighed: _blurred(weighed, params.sigma))
    return blurred.rint().cast(image.format).copy(interpretation=image.interpretation)


def _blurred(image: pyvips.Image, sigma: float) -> pyvips.Image:
    factor = int(sigma // ENOUGH)
    return _gaussian(image, sigma) if factor < 2 else _blurred_small(image, sigma, factor)


def _blurred_small(image: pyvips.Image, sigma: float, factor: int) -> pyvips.Image:
    """Blur at a reduced size: such a smooth result does not need all pixels, and this saves most of the work."""
    margin = 2 * factor  # continues the picture beyond its border, as the kernel expects
    across, down = ((-(-side // factor) + 4) * factor for side in (image.width, image.height))
    small = image.embed(margin, margin, across, down, extend="copy").cast("float").shrink(factor, factor)
    blur_of_shrinking = (factor**2 - 1) / 12  # a variance, like the square of sigma
    small = _gaussian(small, math.sqrt(sigma**2 - blur_of_shrinking) / factor).copy_memory()
    corner_to_centre = 0.5 - 0.5 / factor
    large = small.affine(
        [factor, 0, 0, factor],
        idx=corner_to_centre,
        idy=corner_to_centre,
        oarea=[0, 0, across, down],
        extend="copy",
    )
    return large.crop(margin, margin, image.width, image.height)


def _gaussian(image: pyvips.Image, sigma: float) -> pyvips.Image:
    # libvips' integer kernel does not add up to one: a white pixel became 247
    return image.gaussblur(sigma, min_ampl=CUT_OFF, precision="float")
