"""A reader for the structure of files that may be hostile."""

import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from app.errors import TruncatedImage, UnsupportedImage

MAX_STEPS = 500_000  # reads and table entries; a GIF of 100 MB takes 400 000, any other ordinary file far fewer
WINDOW = 8 * 1024  # bytes per read: more would slow parsers that jump, less would slow those that read on
PADDING_TAIL = 8  # bytes at the end of a file
SEARCH_BLOCK = 64 * 1024  # bytes per read of a search


@dataclass(frozen=True)
class Shape:
    """What the parser of a format returns; see `ImageHeader` for the fields."""

    width: int
    height: int
    frames: int = 1
    #: set if the format is only known from more than the first bytes
    format: str | None = None
    page: int = 0
    sub_page: int | None = None
    next_page: tuple[int, int] | None = None


def damaged(name: str) -> UnsupportedImage:
    """The error for an invalid structure."""
    return UnsupportedImage(f"The structure of the {name} file is damaged.")


class Reader:
    """Reads a file within its size and within a budget of steps, so that every parser comes to an end.

    Reading past the end of the file raises TruncatedImage, and exceeding the budget UnsupportedImage.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._window = memoryview(b"")
        self._window_start = 0
        self._steps = 0
        self.size = file.seek(0, os.SEEK_END)
        self.position = 0
        self.prefix = bytes(self._read(0, 16))

    def spend(self, steps: int) -> None:
        """Count steps, and refuse the file above `MAX_STEPS`."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise UnsupportedImage("The image file consists of more parts than an ordinary image.")

    def skip(self, count: int) -> None:
        """Move forward by bytes that the file must have."""
        if self.position + count > self.size:
            raise TruncatedImage
        self.position += count

    def take(self, count: int) -> bytes:
        """Read exactly `count` bytes."""
        self.spend(1)
        start = self.position
        self.skip(count)
        return bytes(self._read(start, count))

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Read values by a format of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def find(self, needle: bytes) -> bool:
        """Whether `needle` occurs from here on. The search runs backwards, since end markers are usually at the end."""
        end, head = self.size, b""
        while end > self.position:
            start = max(self.position, end - SEARCH_BLOCK)
            block = self._read_at(start, end - start) + head
            if needle in block:
                return True
            end, head = start, block[: len(needle) - 1]
        return False

    def ends_with_padding(self, padding: bytes) -> bool:
        """Whether the last bytes of the file are all among these padding bytes."""
        tail = self._read_at(max(0, self.size - PADDING_TAIL), PADDING_TAIL)
        return len(tail) == PADDING_TAIL and not tail.strip(padding)

    def _read_at(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        return self._file.read(count)

    def skip_blocks(self) -> None:
        """Skip blocks that each start with a length byte, up to and including the empty one."""
        length = -1
        while length:
            ahead = self._ahead()
            at = steps = 0
            while length and at < len(ahead):
                length = ahead[at]
                at += length + 1
                steps += 1
            self.spend(steps)
            self.skip(at)

    def take_blocks(self) -> bytes:
        """The joined content of blocks that each start with a length byte, up to the empty one."""
        content = bytearray()
        while length := self.take(1)[0]:
            content += self.take(length)
        return bytes(content)

    def _ahead(self) -> memoryview:
        """The buffered bytes from here on; at least one."""
        if not self._read(self.position, 1):
            raise TruncatedImage
        return self._window[self.position - self._window_start :]

    def _read(self, start: int, count: int) -> memoryview:
        """`count` bytes from a position; fewer at the end of the file."""
        at = start - self._window_start
        if not 0 <= at <= len(self._window) - count:
            self._window_start = self._file.seek(start)
            self._window = memoryview(self._file.read(max(count, WINDOW)))
            at = 0
        return self._window[at : at + count]
