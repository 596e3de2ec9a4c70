"""Encode as AVIF."""

from pathlib import Path

import pyvips

from app.imaging.colours.colour import CHROMA
from app.imaging.metadata.origin import KEPT
from app.parameters import AvifParams


def save(image: pyvips.Image, params: AvifParams, path: Path) -> None:
    """Write an AVIF file."""
    image.heifsave(
        str(path),
        compression="av1",
        Q=params.quality,
        effort=params.effort,
        lossless=params.lossless,
        subsample_mode=CHROMA[params.chroma],
        keep=KEPT[params.keep_metadata],
    )
