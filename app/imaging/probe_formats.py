"""Structure of JPEG, PNG, GIF and WebP files."""

import struct

from app.errors import TruncatedImage
from app.imaging.probe_reader import Reader, Shape, damaged

# JPEG: segments, each a marker and a length, up to the first scan

_TABLES = {0xC4, 0xC8, 0xCC}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - _TABLES  # SOF0 to SOF15
_BARE_MARKERS = {0x01, *range(0xD0, 0xD8)}  # TEM and restarts have no length
_SCAN = 0xDA
_NO_SEGMENT = {0x00, 0xD8, 0xD9}  # stuffing, a second start, an end before any scan


def read_jpeg(reader: Reader) -> Shape:
    reader.skip(2)
    size = None
    while (marker := _jpeg_marker(reader)) != _SCAN:
        if marker in _FRAME_HEADERS and size is None:
            size = struct.unpack(">xHH", _jpeg_segment(reader, keep=5))
        elif marker not in _BARE_MARKERS:
            _jpeg_segment(reader)
    if size is None:
        raise damaged("JPEG")
    # Compressed data never holds this pair of bytes: the first one after the scan's start closes the main image.
    if not reader.find(b"\xff\xd9"):
        raise TruncatedImage
    return Shape(width=size[1], height=size[0])


def _jpeg_marker(reader: Reader) -> int:
    if reader.take(1) != b"\xff":
        raise damaged("JPEG")
    while (marker := reader.take(1)[0]) == 0xFF:
        pass  # fill bytes: any number may stand before a marker
    if marker in _NO_SEGMENT:
        raise damaged("JPEG")
    return marker


def _jpeg_segment(reader: Reader, keep: int = 0) -> bytes:
    """Pass over a segment and return its first `keep` bytes."""
    (length,) = reader.unpack(">H")
    if length < 2 + keep:
        raise damaged("JPEG")
    start = reader.take(keep)
    reader.skip(length - 2 - keep)
    return start


# PNG: chunks, each a length, a name, data and a checksum


def read_png(reader: Reader) -> Shape:
    reader.skip(8)
    length, kind, width, height = reader.unpack(">I4sII")
    if (length, kind) != (13, b"IHDR"):
        raise damaged("PNG")
    reader.skip(5 + 4)  # the rest of the header, and its checksum
    while kind != b"IEND":
        length, kind = reader.unpack(">I4s")
        reader.skip(length + 4)
    return Shape(width, height)


# GIF: images and extensions, each with a run of small blocks, up to the trailer


def read_gif(reader: Reader) -> Shape:
    reader.skip(6)
    width, height, flags = reader.unpack("<HHBxx")
    reader.skip(_gif_palette(flags))
    frames = 0
    while (kind := reader.take(1)) != b";":
        frames += _gif_section(reader, kind)
    return Shape(width, height, frames)


def _gif_section(reader: Reader, kind: bytes) -> int:
    """Pass over an image or an extension and return how many frames it was."""
    if kind == b",":
        (flags,) = reader.unpack("<8xB")
        reader.skip(_gif_palette(flags) + 1)  # and the code size
    elif kind == b"!":
        reader.skip(1)
    else:
        raise damaged("GIF")
    reader.skip_blocks()
    return int(kind == b",")


def _gif_palette(flags: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << (flags & 0x07) + 1 if flags & 0x80 else 0


# WebP: RIFF chunks, each a name, a length and data, padded to an even length


def read_webp(reader: Reader) -> Shape:
    (length,) = reader.unpack("<4xI")
    end = 8 + length
    if end > reader.size:
        raise TruncatedImage
    reader.skip(4)
    size: tuple[int, int] | None = None
    animation = stills = 0
    while reader.position < end:
        kind, length = reader.unpack("<4sI")
        after = reader.position + length
        size = size or _webp_size(reader, kind)
        animation += kind == b"ANMF"
        stills += kind in {b"VP8 ", b"VP8L"}
        if after > end:
            raise TruncatedImage
        reader.position = after + length % 2
    if size is None:
        raise damaged("WebP")
    return Shape(*size, frames=animation or min(stills, 1))


def _webp_size(reader: Reader, kind: bytes) -> tuple[int, int] | None:
    """The width and height that a chunk tells, if it does."""
    if kind == b"VP8X":
        width, width_high, height, height_high = reader.unpack("<4xHBHB")
        return (width_high << 16 | width) + 1, (height_high << 16 | height) + 1
    if kind == b"VP8L":
        signature, bits = reader.unpack("<BI")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) if signature == 0x2F else None
    if kind == b"VP8 ":
        start_code, width, height = reader.unpack("<3x3sHH")
        return (width & 0x3FFF, height & 0x3FFF) if start_code == b"\x9d\x01\x2a" else None
    return None
