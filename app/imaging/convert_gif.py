"""Encode as GIF."""

from pathlib import Path

import pyvips

from app.parameters import GifParams

SHOWN_ONCE = 1  # the default of the format, which needs no extension block


def save(image: pyvips.Image, params: GifParams, path: Path) -> None:
    """Write a GIF file, in which each pixel is either opaque or fully transparent."""
    if image.get_page_height() == image.height:
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "loop", SHOWN_ONCE)  # libvips' default is an endless loop
    image.gifsave(
        str(path),
        bitdepth=params.colours.bit_length() - 1,
        dither=params.dither,
        effort=params.effort,
        keep_duplicate_frames=True,  # an animation keeps its number of frames
        keep="none",
    )
