"""The boxes of AVIF and HEIC (ISO 14496-12): each has a length, a type and content."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import TruncatedImage
from app.imaging.probe.reader import Reader, damaged

BOX_STEPS = 25  # cost of a box in steps: it stays in memory, and an ordinary file has a few dozen


@dataclass(frozen=True)
class Box:
    """The type of a box, and the positions in the file where its content starts and ends."""

    kind: bytes
    start: int
    end: int


def boxes(reader: Reader, start: int, end: int) -> Iterator[Box]:
    """The boxes between two positions. They must fill this range exactly."""
    while start < end:
        box = _box(reader, start, end)
        if box.end > reader.size:
            raise TruncatedImage
        if not box.start <= box.end <= end:
            raise damaged("AVIF or HEIC")
        yield box
        start = box.end


def outermost(reader: Reader) -> list[Box]:
    """The top-level boxes of a file, up to the first bytes that are not a box: cameras and editors append such data.

    A box that is longer than the file is cut at its end. Whether pixels are missing is checked by their positions.
    """
    found: list[Box] = []
    start = 0
    while start + 8 <= reader.size:
        try:
            box = _box(reader, start, reader.size)
        except TruncatedImage:
            break
        if box.end < box.start:
            break
        found.append(Box(box.kind, box.start, min(box.end, reader.size)))
        start = box.end
    return found


def _box(reader: Reader, start: int, end: int) -> Box:
    reader.position = start
    reader.spend(BOX_STEPS)
    size, kind = reader.unpack(">I4s")
    if size == 1:
        (size,) = reader.unpack(">Q")
    return Box(kind, reader.position, start + size if size else end)


def child(among: list[Box], kind: bytes) -> Box:
    """The first box of a type; a file without one is refused as damaged."""
    found = optional(among, kind)
    if found is None:
        raise damaged("AVIF or HEIC")
    return found


def optional(among: list[Box], kind: bytes) -> Box | None:
    """The first box of a type, or None."""
    return next((box for box in among if box.kind == kind), None)
