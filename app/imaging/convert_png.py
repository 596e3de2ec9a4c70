"""Encode as PNG."""

from pathlib import Path
from typing import Any

import pyvips

from app.imaging.metadata.origin import KEPT
from app.parameters import PngParams


def save(image: pyvips.Image, params: PngParams, path: Path) -> None:
    """Write a PNG file."""
    palette: dict[str, Any] = {}
    if params.colours:
        palette = {"palette": True, "bitdepth": params.colours.bit_length() - 1, "dither": params.dither}
    image.pngsave(
        str(path),
        compression=params.compression,
        interlace=params.progressive,
        # With a filter chosen for each row, photographs are a third smaller and take half as much time again. For a
        # palette filters are useless: neighbouring indexes are unrelated.
        filter="none" if params.colours else "all",
        keep=KEPT[params.keep_metadata],
        **palette,
    )
