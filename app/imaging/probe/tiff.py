"""Structure of TIFF files: a chain of directories, one per page, with the offsets of the pixels.

A directory can describe a thumbnail or a mask, and point to sub-directories: camera raw files start with a thumbnail
and have the photograph in a sub-directory. The first directory that describes a picture itself is used.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from operator import add

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.decoding.tiff_kinds import refuse_unsupported
from app.imaging.probe.orientation import upright
from app.imaging.probe.reader import Reader, Shape, damaged

_ASCII = 2  # type of a value
MAX_TEXT = 10_000_000  # bytes of a text; libvips 8.18 crashes on a description of 27 MB
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}  # their `struct` codes
_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_ORIENTATION, _SUB_DIRECTORIES, _SAMPLE_FORMAT = 274, 330, 339
_STRIPS = (273, 279)  # tags of the offsets and of the byte counts, as for tiles
_TILES = (324, 325)
_TAGS = {  # the tags that are kept in memory
    *(_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC),
    *(_ORIENTATION, _SUB_DIRECTORIES, _SAMPLE_FORMAT, *_STRIPS, *_TILES),
}
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: a thumbnail, a mask
_OLD_REDUCED = 2


def read_tiff(reader: Reader) -> Shape:
    tiff = _Tiff.open(reader)
    first, pages, main = next(tiff.pages()), 0, None
    with suppress(TruncatedImage, UnsupportedImage):  # pages that are not decoded may be broken
        for number, page in enumerate(tiff.pages()):
            pages = number + 1
            if main is None and tiff.is_picture(page.entries):
                main = _Found(page, number)
    main = main or tiff.picture_below(first) or _Found(first)
    directory = main.directory.entries
    refuse_unsupported(
        compression=tiff.number(directory, _COMPRESSION, 1),
        photometric=tiff.number(directory, _PHOTOMETRIC, 1),
        bits=max(tiff.numbers(directory, _BITS), default=1),
        sample_format=max(tiff.numbers(directory, _SAMPLE_FORMAT), default=1),
        tiled=_TILES[0] in directory,
    )
    tiff.check_pixels(directory)
    size = tiff.number(directory, _WIDTH), tiff.number(directory, _HEIGHT)
    size = upright(size, tiff.number(directory, _ORIENTATION, 1))
    leads_on = first if main.sub_page is not None else main.directory
    return Shape(*size, frames=max(pages, 1), page=main.page, sub_page=main.sub_page, next_page=leads_on.next_page)


#: directory entries by tag: type, number of values, and the values or their offset
_Entries = dict[int, tuple[int, int, bytes]]


@dataclass(frozen=True)
class _Directory:
    """The entries of a directory, and the offset of the next directory, or 0."""

    entries: _Entries
    following: int
    #: position and length in bytes of that offset; None if it is 0
    next_page: tuple[int, int] | None


@dataclass(frozen=True)
class _Found:
    """The directory of a picture, with the index of its page, and of the sub-directory if it is one."""

    directory: _Directory
    page: int = 0
    sub_page: int | None = None


@dataclass(frozen=True)
class _Tiff:
    """A TIFF file in either byte order, classic or with 64-bit offsets."""

    reader: Reader
    order: str
    #: `struct` codes of an offset and of the number of entries in a directory
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

    def pages(self) -> Iterator[_Directory]:
        """The directories of the chain, which ends before it would repeat; a file without any is refused."""
        offset, seen = self.first, set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            directory = self.directory(offset)
            offset = directory.following
            yield directory
        if not seen:
            raise damaged("TIFF")

    def directory(self, offset: int) -> _Directory:
        """The directory at an offset."""
        self.reader.position = offset
        (count,) = self.reader.unpack(self.order + self.count)
        self.reader.spend(count)
        entry = struct.Struct(f"{self.order}HH{self.offset}{struct.calcsize(self.offset)}s")
        table = self.reader.take(count * entry.size)
        end = self.reader.position
        try:
            (following,) = self.reader.unpack(self.order + self.offset)
        except TruncatedImage:
            following = 0  # some writers of single pages omit it
        entries = list(entry.iter_unpack(table))
        if any(kind == _ASCII and length > MAX_TEXT for _, kind, length, _ in entries):
            raise damaged("TIFF")
        found = {tag: (kind, length, value) for tag, kind, length, value in entries if tag in _TAGS}
        return _Directory(found, following, (end, struct.calcsize(self.offset)) if following else None)

    def numbers(self, directory: _Entries, tag: int) -> tuple[int, ...]:
        """The values of a tag; empty if it is absent."""
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

    def number(self, directory: _Entries, tag: int, otherwise: int | None = None) -> int:
        """The first value of a tag. If it is absent, this returns `otherwise`, or refuses the file without one."""
        values = self.numbers(directory, tag)
        if not values:
            if otherwise is None:
                raise damaged("TIFF")
            return otherwise
        return values[0]

    def is_picture(self, directory: _Entries) -> bool:
        """Whether this is neither a thumbnail nor a mask."""
        return not (
            self.number(directory, _KIND, 0) & (_REDUCED | _MASK)
            or self.number(directory, _OLD_KIND, 0) == _OLD_REDUCED
        )

    def picture_below(self, parent: _Directory) -> _Found | None:
        """The first picture among the sub-directories of a directory."""
        for number, offset in enumerate(self.numbers(parent.entries, _SUB_DIRECTORIES)):
            directory = self.directory(offset)
            if self.is_picture(directory.entries):
                return _Found(directory, sub_page=number)
        return None

    def check_pixels(self, directory: _Entries) -> None:
        """Refuse a page whose pixels lie beyond the end of the file."""
        for offsets, counts in (_STRIPS, _TILES):
            ends = map(add, self.numbers(directory, offsets), self.numbers(directory, counts) or repeat(0))
            if max(ends, default=0) > self.reader.size:
                raise TruncatedImage
