"""Encode as JPEG."""

from pathlib import Path

import pyvips

from app.imaging.colour import CHROMA
from app.parameters import JpegParams


def save(image: pyvips.Image, params: JpegParams, path: Path) -> None:
    """Write a JPEG file; the background shows where the image is transparent."""
    if image.hasalpha():
        image = _over(image, bytes.fromhex(params.background.removeprefix("#")))
    image.jpegsave(
        str(path),
        Q=params.quality,
        interlace=params.progressive,
        optimize_coding=True,
        subsample_mode=CHROMA[params.chroma],
        keep="none",
    )


def _over(image: pyvips.Image, background: bytes) -> pyvips.Image:
    if image.bands == 2 and len(set(background)) > 1:
        image = image.colourspace("srgb")  # a coloured background shows through a grey image
    return image.flatten(background=list(background[: image.bands - 1]))
