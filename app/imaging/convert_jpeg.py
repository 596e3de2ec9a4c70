"""Encode as JPEG."""

from pathlib import Path

import pyvips

from app.imaging.colours.colour import CHROMA, with_background
from app.imaging.metadata import extended_xmp
from app.imaging.metadata.origin import KEPT
from app.parameters import JpegParams


def save(image: pyvips.Image, params: JpegParams, path: Path) -> None:
    """Write a JPEG file; the background shows where the image is transparent."""
    image = flattened(image, params)
    xmp = bytes(image.get("xmp-data")) if image.get_typeof("xmp-data") else b""
    if len(xmp) > extended_xmp.MAX_BYTES:
        image = image.copy()
        image.remove("xmp-data")
    image.jpegsave(
        str(path),
        Q=params.quality,
        interlace=params.progressive,
        optimize_coding=True,
        subsample_mode=CHROMA[params.chroma],
        trellis_quant=params.trellis,
        overshoot_deringing=params.trellis,
        optimize_scans=params.trellis and params.progressive,
        keep=KEPT[params.keep_metadata],
    )
    if len(xmp) > extended_xmp.MAX_BYTES:
        extended_xmp.insert(path, xmp)


def flattened(image: pyvips.Image, params: JpegParams) -> pyvips.Image:
    """The image blended onto the background, without alpha."""
    if not image.hasalpha():
        return image
    image, background = with_background(image, params.background)
    return image.flatten(background=background[:-1])
