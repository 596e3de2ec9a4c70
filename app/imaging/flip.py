"""Flip."""

import pyvips

from app.imaging.recipe import Context
from app.parameters import FlipParams


def run(image: pyvips.Image, params: FlipParams, _context: Context | None = None) -> pyvips.Image:
    """Mirror an image."""
    if params.direction == "horizontal":
        return image.fliphor()
    image = image.copy_memory()  # flipping reads lines in another order than the decoder yields them
    return image.flipver() if params.direction == "vertical" else image.rot180()
