"""Structure of TIFF files: a chain of directories, one for each page, whose tables say where the pixels are."""

import struct
from dataclasses import dataclass
from itertools import repeat
from operator import add

from app.errors import TruncatedImage
from app.imaging.probe_reader import Reader, Shape, damaged

_ASCII = 2  # type of a value
MAX_TEXT = 10_000_000  # bytes of one; libvips 8.18 crashes on a description of 27 MB
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # integer types to `struct` codes
_WIDTH, _HEIGHT = 256, 257
_STRIPS = (273, 279)  # tags of the offsets and of the byte counts
_TILES = (324, 325)
_TAGS = {_WIDTH, _HEIGHT, *_STRIPS, *_TILES}  # all that is kept in memory


def read_tiff(reader: Reader) -> Shape:
    tiff = _Tiff.open(reader)
    seen: set[int] = set()
    offset = tiff.first
    width = height = 0
    while offset:
        if offset in seen:
            raise damaged("TIFF")
        directory, following = tiff.directory(offset)
        tiff.check_pixels(directory)
        if not seen:
            width, height = tiff.number(directory, _WIDTH), tiff.number(directory, _HEIGHT)
        seen.add(offset)
        offset = following
    return Shape(width, height, frames=len(seen))


#: tag to type, number of values, and the values themselves or the place where they are
_Directory = dict[int, tuple[int, int, bytes]]


@dataclass(frozen=True)
class _Tiff:
    """A TIFF file in either byte order, classic or with 64-bit offsets."""

    reader: Reader
    order: str
    #: `struct` codes: of an offset, of a directory's length
    offset: str
    count: str
    #: offset of the first directory
    first: int

    @classmethod
    def open(cls, reader: Reader) -> "_Tiff":
        order = "<" if reader.take(2) == b"II" else ">"
        (version,) = reader.unpack(order + "H")
        if version == 42:
            return cls(reader, order, "I", "H", *reader.unpack(order + "I"))
        return cls(reader, order, "Q", "Q", *reader.unpack(order + "4xQ"))

    def directory(self, offset: int) -> tuple[_Directory, int]:
        """The directory at an offset, and the offset of the next one."""
        self.reader.position = offset
        (count,) = self.reader.unpack(self.order + self.count)
        self.reader.spend(count)
        entry = struct.Struct(f"{self.order}HH{self.offset}{struct.calcsize(self.offset)}s")
        table = self.reader.take(count * entry.size)
        (following,) = self.reader.unpack(self.order + self.offset)
        entries = list(entry.iter_unpack(table))
        if any(kind == _ASCII and length > MAX_TEXT for _, kind, length, _ in entries):
            raise damaged("TIFF")
        return {tag: (kind, length, value) for tag, kind, length, value in entries if tag in _TAGS}, following

    def numbers(self, directory: _Directory, tag: int) -> tuple[int, ...]:
        """The values of a tag; none when it is absent."""
        kind, count, value = directory.get(tag, (1, 0, b""))
        if kind not in _TYPES:
            raise damaged("TIFF")
        self.reader.spend(count)
        layout = f"{self.order}{count}{_TYPES[kind]}"
        size = struct.calcsize(layout)
        if size > len(value):
            (self.reader.position,) = struct.unpack(self.order + self.offset, value)
            value = self.reader.take(size)
        return struct.unpack(layout, value[:size])

    def number(self, directory: _Directory, tag: int) -> int:
        """The only value of a tag."""
        values = self.numbers(directory, tag)
        if len(values) != 1:
            raise damaged("TIFF")
        return values[0]

    def check_pixels(self, directory: _Directory) -> None:
        """Refuse a page whose pixels lie beyond the end of the file."""
        for offsets, counts in (_STRIPS, _TILES):
            ends = map(add, self.numbers(directory, offsets), self.numbers(directory, counts) or repeat(0))
            if max(ends, default=0) > self.reader.size:
                raise TruncatedImage
