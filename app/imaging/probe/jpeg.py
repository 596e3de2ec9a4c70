"""Structure of JPEG files: segments, each with a marker and a length, up to the first scan."""

import struct

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.probe.orientation import EXIF_MARK, orientation_of, upright
from app.imaging.probe.reader import Reader, Shape, damaged

_TABLES = {0xC4, 0xC8, 0xCC}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - _TABLES  # SOF0 to SOF15
_UNSUPPORTED = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
}
_BARE_MARKERS = {0x01, *range(0xD0, 0xD8)}  # TEM and the restart markers have no length
_APP1 = 0xE1
_SCAN = 0xDA
_NO_SEGMENT = {0xD8, 0xD9}  # SOI and EOI, which are misplaced before the first scan
_PADDING = b"\0\xff"


def read_jpeg(reader: Reader) -> Shape:
    reader.skip(2)
    size: tuple[int, int] | None = None
    orientation: int | None = None
    while (marker := _marker(reader)) != _SCAN:
        if marker in _FRAME_HEADERS and size is None:
            size = _size(marker, _segment(reader, keep=5))
        elif marker == _APP1 and orientation is None:
            orientation = _orientation(reader)
        elif marker not in _BARE_MARKERS:
            _segment(reader)
    if size is None:
        raise damaged("JPEG")
    # EOI. Compressed data never contains these bytes: the first pair after the start of the scan ends the main image.
    if not reader.find(b"\xff\xd9") and not reader.ends_with_padding(_PADDING):
        raise TruncatedImage
    return Shape(*upright(size, orientation or 1))


def _marker(reader: Reader) -> int:
    """The next marker. Bytes before it are skipped, as by every decoder."""
    while True:
        while reader.take(1) != b"\xff":
            pass
        while (marker := reader.take(1)[0]) == 0xFF:
            pass
        if marker in _NO_SEGMENT:
            raise damaged("JPEG")
        if marker:
            return marker


def _segment(reader: Reader, keep: int = 0) -> bytes:
    """Skip a segment and return its first `keep` bytes."""
    (length,) = reader.unpack(">H")
    if length < 2 + keep:
        raise damaged("JPEG")
    start = reader.take(keep)
    reader.skip(length - 2 - keep)
    return start


def _size(marker: int, frame: bytes) -> tuple[int, int]:
    precision, height, width = struct.unpack(">BHH", frame)
    if marker in _UNSUPPORTED:
        raise UnsupportedImage(f"The JPEG is {_UNSUPPORTED[marker]}; baseline and progressive ones are supported.")
    if precision == 12:
        raise UnsupportedImage("The JPEG has 12 bits per sample; 8 are supported.")
    return width, height


def _orientation(reader: Reader) -> int | None:
    """The orientation from an APP1 segment; None if the segment is not EXIF."""
    (length,) = reader.unpack(">H")
    if length < 2:
        raise damaged("JPEG")
    after = reader.position + length - 2
    is_exif = length - 2 >= len(EXIF_MARK) and reader.take(len(EXIF_MARK)) == EXIF_MARK
    content = reader.take(after - reader.position) if is_exif else None
    reader.skip(after - reader.position)
    return None if content is None else orientation_of(content)
