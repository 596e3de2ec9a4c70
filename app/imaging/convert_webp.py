"""Encode as WebP."""

from pathlib import Path

import pyvips

from app.errors import ImageTooLarge
from app.imaging.metadata.origin import KEPT
from app.parameters import WebpParams

MAX_SIDE = 16383  # pixels; the format has 14 bits for a side


def save(image: pyvips.Image, params: WebpParams, path: Path) -> None:
    """Write a WebP file."""
    side = max(image.width, image.get_page_height())
    if side > MAX_SIDE:
        raise ImageTooLarge(f"A WebP image has at most {MAX_SIDE} pixels on a side.", limit=MAX_SIDE, value=side)
    image.webpsave(
        str(path),
        Q=params.quality,
        effort=params.effort,
        lossless=params.lossless,
        keep=KEPT[params.keep_metadata],
    )
