"""Previews: small pictures of the original inside EXIF, XMP and IPTC.

They can show what a crop or a blur was meant to remove, so results never contain them, whatever else is kept.
"""

import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from app.imaging.metadata.exif import PREFIX
from app.imaging.metadata.iptc import datasets

_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|RIFF....WEBP|GIF8[79]a", re.DOTALL)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes per value, by type
_DIRECTORIES = {0x8769, 0x8825, 0xA005}  # EXIF, GPS, interoperability
_PIXELS = {  # tags that hold or point to pixels
    *(0x0111, 0x0117, 0x0144, 0x0145),  # strips and tiles
    *(0x0201, 0x0202),  # a JPEG
    0x014A,  # sub-directories of further pictures
    0x501B,  # a thumbnail that Windows writes
    0x8649,  # Photoshop's resources
}
_MAX_DIRECTORIES = 8
_MAX_ENTRIES = 1000
_PREVIEW_DATA = {(2, 200), (2, 201), (2, 202)}
_OBJECT_RECORDS = {7, 8, 9}  # records with the picture itself
#: JPEG, PNG, WebP or GIF in base64
_BASE64 = re.compile(rb"(?:/9j/|iVBORw0KGgo|UklGR|R0lGOD)(?:[A-Za-z0-9+/=\s]|&#[xX]?[0-9A-Fa-f]{1,4};){32,}")
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails[\s>/]")


def without_previews(name: str, block: bytes) -> bytes:
    """A block without pictures; empty if it cannot be read.

    Args:
        name: libvips' name of the block.
        block: EXIF, XMP, or bare records of IPTC.
    """
    return _CLEANERS[name](block)


def _exif(block: bytes) -> bytes:
    try:
        tiff = _Tiff(bytearray(block.removeprefix(PREFIX)))
        for directory in tiff.directories():
            tiff.clear(directory)
    except (struct.error, ValueError):
        return b""
    return PREFIX + bytes(tiff.data)


def _iptc(block: bytes) -> bytes:
    return b"".join(
        bytes(content)
        for (record, number), content in datasets(block)
        if record not in _OBJECT_RECORDS and (record, number) not in _PREVIEW_DATA
    )


def _xmp(block: bytes) -> bytes:
    while found := _THUMBNAILS.search(block):
        close = b"</" + found[1] + b":Thumbnails>"
        end = block.find(close, found.start())
        if end < 0:
            break
        block = block[: found.start()] + block[end + len(close) :]
    return _BASE64.sub(b"", block)


_CLEANERS: dict[str, Callable[[bytes], bytes]] = {"exif-data": _exif, "xmp-data": _xmp, "iptc-data": _iptc}


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory, at an offset in the block."""

    at: int
    tag: int
    #: range of its value in the block
    start: int
    end: int


@dataclass
class _Tiff:
    """A block of EXIF, which is changed in place, because maker notes contain offsets into it."""

    data: bytearray

    @cached_property
    def order(self) -> str:
        orders = {b"II*\0": "<", b"MM\0*": ">"}
        if (start := bytes(self.data[:4])) not in orders:
            raise ValueError("no EXIF")
        return orders[start]

    @cached_property
    def pictures(self) -> list[int]:
        """Offsets at which a picture seems to begin, judged by the signatures of the formats."""
        return [found.start() for found in _PICTURE.finditer(self.data)]

    def directories(self) -> list[int]:
        """Offsets of the directories that describe the image itself, not its thumbnail."""
        found = [self._number("I", 4)]
        for directory in islice(iter(found), _MAX_DIRECTORIES):  # grows while it is walked
            inner = [self._number("I", entry.start) for entry in self._entries(directory) if entry.tag in _DIRECTORIES]
            found += [offset for offset in inner if offset not in found]
        return found[:_MAX_DIRECTORIES]

    def clear(self, directory: int) -> None:
        """Remove a directory's entries with pictures, and its link to the next directory, which is of a thumbnail."""
        found = list(self._entries(directory))
        kept = [entry for entry in found if not self._is_picture(entry)]
        table = struct.pack(self.order + "H", len(kept))
        table += b"".join(self.data[entry.at : entry.at + 12] for entry in kept)
        length = 2 + 12 * len(found) + 4
        self.data[directory : directory + length] = table.ljust(length, b"\0")  # a zero at the end: no next directory

    def _number(self, layout: str, at: int) -> int:
        (value,) = struct.unpack_from(self.order + layout, self.data, at)
        return int(value)

    def _entries(self, directory: int) -> Iterator[_Entry]:
        count = self._number("H", directory)
        if count > _MAX_ENTRIES:
            raise ValueError("more entries than any camera writes")
        return (self._entry(directory + 2 + 12 * number) for number in range(count))

    def _entry(self, at: int) -> _Entry:
        tag, kind, count = struct.unpack_from(self.order + "HHI", self.data, at)
        size = _SIZES.get(kind, 1) * count
        start = at + 8 if size <= 4 else self._number("I", at + 8)
        return _Entry(at, tag, start, start + size)

    def _is_picture(self, entry: _Entry) -> bool:
        following = bisect_left(self.pictures, entry.start)
        return entry.tag in _PIXELS or any(at < entry.end for at in self.pictures[following : following + 1])
