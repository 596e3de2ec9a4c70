"""Flip."""

import pyvips

from app.imaging.recipe import StageMonitor
from app.parameters import FlipParams


def run(image: pyvips.Image, params: FlipParams, _monitor: StageMonitor | None = None) -> pyvips.Image:
    """Mirror an image."""
    if params.direction == "horizontal":
        return image.fliphor()
    image = image.copy_memory()  # read in another order than it is decoded
    return image.flipver() if params.direction == "vertical" else image.rot180()
