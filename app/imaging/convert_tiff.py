"""Encode as TIFF."""

from pathlib import Path

import pyvips

from app.imaging.metadata.origin import KEPT
from app.parameters import TiffParams


def save(image: pyvips.Image, params: TiffParams, path: Path) -> None:
    """Write a TIFF file with 8 or 16 bits per channel."""
    predictor = "none" if params.compression == "none" else "horizontal"  # photographs take half the size with it
    image.tiffsave(str(path), compression=params.compression, predictor=predictor, keep=KEPT[params.keep_metadata])
