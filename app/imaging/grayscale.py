"""Grayscale."""

import pyvips

from app.imaging.colours.colour import to_srgb
from app.imaging.recipe import Context
from app.parameters import GrayscaleParams


def run(image: pyvips.Image, _params: GrayscaleParams, _context: Context | None = None) -> pyvips.Image:
    """One channel of the luminance, computed in linear light (libvips' `b-w`), and alpha if there is any."""
    image = to_srgb(image)  # in another profile, the same values have another luminance
    return image.colourspace("grey16" if image.format == "ushort" else "b-w")
