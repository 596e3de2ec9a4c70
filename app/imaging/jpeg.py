"""Decodes JPEG so that no lost pixel goes unnoticed.

libjpeg goes on after every error in the pixel data, in grey or with rubbish, and only warns. libvips drops part of the
warnings: all of them where the decoder shrinks, those about the last lines, and those about what is left over after
the last line. So the pixels come from libjpeg-turbo by a binding that raises on every warning; what a warning says
about the header alone is mended in a copy, and the copy decoded.
"""

from math import ceil
from pathlib import Path
from typing import Any

import pyvips
import simplejpeg

from app.errors import CorruptImage
from app.imaging.jpeg_repair import repaired

SHRINKABLE = 16  # pixels of a side: for less, two of the decoder's scales give the same size
COLOURS = {"Gray": "GRAY", "RGB": "RGB", "YCbCr": "RGB"}  # what is decoded here, by the names of the binding
INTERPRETATIONS = {1: "b-w", 3: "srgb"}
MOST_REPAIRS = 8
#: how the binding begins the texts of what it does not know, damaged or not: the other decoder has to say
WARNINGS = ("Corrupt JPEG data", "Premature end", "Inconsistent progression", "Invalid SOS", "Warning:", "Unknown Adobe")


class Unknown(Exception):
    """The file is of a kind that the binding does not know, or broken from its first bytes on."""


def load(path: Path, shrink: int) -> pyvips.Image | None:
    """The pixels in grey or RGB as stored, divided by `shrink`; None for CMYK, which is checked and no more.

    Raises:
        CorruptImage: pixels are lost.
        Unknown: it was not even checked.
    """
    data = path.read_bytes()
    try:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):
        raise Unknown from None
    if min(width, height) < SHRINKABLE:
        shrink = 1
    if kind not in COLOURS:
        _decode(data, "CMYK", 1, 1)
        return None
    pixels = _decode(data, COLOURS[kind], ceil(width / shrink), ceil(height / shrink))
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    return image.copy(interpretation=INTERPRETATIONS[bands])


def _decode(data: bytes, colours: str, width: int, height: int) -> Any:
    for _ in range(MOST_REPAIRS):
        try:
            return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
        except ValueError as error:
            warning = str(error)
        if not warning.startswith(WARNINGS):
            raise Unknown
        mended = repaired(data, warning)
        if mended is None:
            break
        data = mended
    raise CorruptImage
