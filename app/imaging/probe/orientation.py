"""The EXIF orientation: how to rotate or mirror the stored pixels so that the picture is upright."""

import struct

SIDEWAYS = range(5, 9)  # orientations with width and height exchanged
EXIF_MARK = b"Exif\0\0"
MAX_EXIF = 65536  # bytes of a block that are read
_ORIENTATION, _SHORT = 0x0112, 3


def upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the upright picture."""
    return (size[1], size[0]) if orientation in SIDEWAYS else size


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF; 1 if the block has none or is broken."""
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
        pass  # a broken block
    return 1
