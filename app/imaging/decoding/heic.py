"""Decodes HEIC with pillow-heif, since the binary package of libvips has no HEVC decoder."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pyvips

from app.errors import CorruptImage

BLOCKS = {"exif": "exif-data", "xmp": "xmp-data", "icc_profile": "icc-profile-data"}
DEEP = ";16"  # suffix of the library's modes with more than 8 bits


def load(path: Path) -> pyvips.Image:
    """Decode the main image of a file; the result is upright.

    Raises:
        CorruptImage: the image cannot be decoded.
    """
    library: Any = import_module("pi_heif")  # brings Pillow along, which most processes never need
    try:
        file = library.open_heif(path, convert_hdr_to_8bit=False)
        image = pyvips.Image.new_from_memory(*_plane(file))
    except (ValueError, SyntaxError, EOFError, RuntimeError) as error:  # all errors that the library raises
        raise CorruptImage from error
    image = image.copy(interpretation=_interpretation(image))
    for name, field in BLOCKS.items():
        if file.info.get(name):
            image.set_type(pyvips.GValue.blob_type, field, bytes(file.info[name]))
    # The decoder has applied the file's own transformation; the EXIF orientation is for readers that ignore that
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return image


def _plane(file: Any) -> tuple[bytes, int, int, int, str]:
    """The pixels without padding at the ends of lines, and their width, height, bands and format."""
    deep = file.mode.endswith(DEEP)
    bands = len(file.mode.removesuffix(DEEP))
    length = file.size[0] * bands * (2 if deep else 1)
    lines = memoryview(file.data).cast("B")
    data = b"".join(lines[row * file.stride : row * file.stride + length] for row in range(file.size[1]))
    return data, *file.size, bands, "ushort" if deep else "uchar"


def _interpretation(image: pyvips.Image) -> str:
    grey = image.bands < 3
    if image.format == "ushort":
        return "grey16" if grey else "rgb16"
    return "b-w" if grey else "srgb"
