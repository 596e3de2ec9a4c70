"""The rotation that shows a picture as it was taken."""

import struct

SIDEWAYS = range(5, 9)  # EXIF orientations with width and height exchanged
EXIF_MARK = b"Exif\0\0"
MAX_EXIF = 65536  # bytes that are looked at
_ORIENTATION, _SHORT = 0x0112, 3


def upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The width and height of the upright picture."""
    return (size[1], size[0]) if orientation in SIDEWAYS else size


def orientation_of(exif: bytes) -> int:
    """The orientation in a block of EXIF; 1 where it has none that can be read."""
    exif = exif.removeprefix(EXIF_MARK)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return int(value) if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass  # a broken block says nothing
    return 1
