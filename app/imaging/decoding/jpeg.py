"""Decodes JPEG files, and detects every lost pixel.

libjpeg continues after every error in the pixel data, with grey or wrong pixels, and only warns. libvips drops some of
the warnings: all of them if the decoder shrinks, those about the last lines, and those about data after the last line.
So libjpeg-turbo decodes the pixels, through a binding that raises on every warning. If a warning concerns only the
headers, they are repaired in a copy, and the copy is decoded.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import pyvips
import simplejpeg

from app.errors import CorruptImage
from app.imaging.decoding.jpeg_repair import repaired, with_phantom

SHRINKABLE = 16  # pixels of a side: for less, two of the decoder's scales give the same size
COLOURS = {"Gray": "GRAY", "RGB": "RGB", "YCbCr": "RGB"}  # the binding's names of colour spaces: in the file, decoded
INTERPRETATIONS = {1: "b-w", 3: "srgb"}
MOST_REPAIRS = 8
STRIP = 8  # lines that libvips decodes before it looks for warnings

T = TypeVar("T")


class _Warned(Exception):
    """The decoder has given a warning; the message is its text."""


def load(path: Path, shrink: int) -> pyvips.Image | None:
    """Decode and check a file: grey or RGB, not rotated, divided by `shrink`. None: it was only checked, for libvips.

    Raises:
        CorruptImage: pixels are lost.
    """
    data = path.read_bytes()
    try:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # rare chroma subsampling, or a broken header
        _sound(data, _check_by_libvips)
        return None
    if min(width, height) < SHRINKABLE:
        shrink = 1
    if kind not in COLOURS:  # CMYK
        _sound(data, partial(_decode, colours="CMYK", width=1, height=1))
        return None
    size = {"width": ceil(width / shrink), "height": ceil(height / shrink)}
    pixels = _sound(data, partial(_decode, colours=COLOURS[kind], **size))
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    return image.copy(interpretation=INTERPRETATIONS[bands])


def _sound(data: bytes, attempt: Callable[[bytes], T]) -> T:
    """Run a decoder on the data. After a warning that means no lost pixels, repair a copy and try again."""
    for _ in range(MOST_REPAIRS):
        try:
            return attempt(data)
        except _Warned as warned:
            mended = repaired(data, str(warned))
        if mended is None:
            break
        data = mended
    raise CorruptImage


def _decode(data: bytes, colours: str, width: int, height: int) -> Any:
    try:
        return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
    except ValueError as error:
        raise _Warned(error) from None


def _check_by_libvips(data: bytes) -> None:
    """Have libvips check the whole file for warnings; by itself it stops after the last line.

    The check declares a component that no scan contains. Since a later scan could contain it, libjpeg reads to the end
    of the file before it returns the first line.
    """
    source = pyvips.Source.new_from_memory(with_phantom(data))
    try:
        image = pyvips.Operation.call("jpegload_source", source, access="sequential", fail_on="warning")
        image.crop(0, 0, image.width, min(STRIP, image.height)).copy_memory()
    except pyvips.Error as error:
        raise _Warned(error) from None
