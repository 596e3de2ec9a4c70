"""Side data: parts of a file besides the picture that is decoded, which libvips does not report."""

import struct
from collections.abc import Callable, Iterator, Set
from mmap import ACCESS_READ, mmap
from pathlib import Path

from app.formats import FORMATS
from app.imaging.metadata.extended_xmp import PART as EXTENSION
from app.references import resolve

MAX_STEPS = 10_000  # chunks, segments or entries that are read
PNG_START = 8  # bytes
MPF = b"MPF\0"  # multi-picture format: CIPA DC-007
DEPTH = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth", b"urn:mpeg:hevc:2015:auxid:2\0")
SUB_DIRECTORIES, EXIF = 330, 34665  # tags of TIFF

#: how many there are, by kind
SideData = dict[str, int]


def side_data(path: Path, format_: str) -> SideData:
    """The number of `frames` and `sub_images`; 1 for a `profile`, and for `exif` or `xmp` that is not read."""
    by = FORMATS[format_].looked_into_by
    if by is None:
        return {}
    look: Callable[[mmap], SideData] = resolve(by)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        try:
            return look(content)
        except struct.error:  # the file ends early, which the decoder reports
            return {}


def in_png(content: mmap) -> SideData:
    found, position = {}, PNG_START
    for _ in range(MAX_STEPS):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"acTL":
            (found["frames"],) = struct.unpack_from(">I", content, position + 8)
        if kind == b"iCCP":
            found["profile"] = 1
        if kind in {b"IDAT", b"IEND"}:
            break
        position += 12 + length
    return found


def in_jpeg(content: mmap) -> SideData:
    found: SideData = {}
    for start, end in _segments(content):
        if content[start : start + len(MPF)] == MPF:
            found["sub_images"] = max(0, _pictures(content[start + len(MPF) : end]) - 1)
        if content[start : start + len(EXTENSION)] == EXTENSION:
            found["xmp"] = 1
    return found


def _segments(content: mmap) -> Iterator[tuple[int, int]]:
    """Start and end of the data of each segment before the first scan."""
    position = 2
    for _ in range(MAX_STEPS):
        fill, marker, length = struct.unpack_from(">BBH", content, position)
        if fill != 0xFF or marker == 0xDA:
            return
        if marker == 0xFF:
            position += 1
            continue
        yield position + 4, position + 2 + length
        position += 2 + length


def _pictures(index: bytes) -> int:
    order = "<" if index[:2] == b"II" else ">"
    return dict(_numbers(index, order)).get(0xB001, 1)


def in_tiff(content: mmap) -> SideData:
    order = "<" if content[:2] == b"II" else ">"
    if content[2:4] not in {b"*\0", b"\0*"}:
        return {}  # 64-bit offsets
    tags = dict(_numbers(content, order, counted={SUB_DIRECTORIES}))
    found = {"sub_images": tags.get(SUB_DIRECTORIES, 0), "exif": int(EXIF in tags)}
    return {name: count for name, count in found.items() if count}


def _numbers(content: bytes | mmap, order: str, counted: Set[int] = frozenset()) -> Iterator[tuple[int, int]]:
    """The tags of the first directory, each with its value, or for those in `counted` with its number of values."""
    (directory,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, directory)
    for number in range(min(count, MAX_STEPS)):
        tag, _, values, value = struct.unpack_from(order + "HHII", content, directory + 2 + 12 * number)
        yield tag, values if tag in counted else value


def in_heif(content: mmap) -> SideData:
    return {"sub_images": 1} if any(content.find(mark) >= 0 for mark in DEPTH) else {}
