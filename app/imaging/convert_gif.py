"""Encode as GIF."""

from pathlib import Path

import pyvips

from app.parameters import GifParams


def save(image: pyvips.Image, params: GifParams, path: Path) -> None:
    """Write a GIF file; of alpha, only wholly transparent or not is left."""
    image.gifsave(
        str(path),
        bitdepth=params.colours.bit_length() - 1,
        dither=params.dither,
        effort=params.effort,
        keep_duplicate_frames=True,  # an animation keeps its number of frames
        keep="none",
    )
