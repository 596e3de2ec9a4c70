"""Checks that a GIF has data for every pixel of the frames that are read.

If the data of a frame ends early, the decoder leaves the remaining pixels empty without an error. LZW data is a
sequence of codes, each of which represents a run of pixels. Only the lengths of these runs matter here, so many codes
are processed at once, without decoding pixels.
"""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import CorruptImage
from app.imaging.probe.gif import gif_images
from app.imaging.probe.reader import Reader

Codes = NDArray[np.int64]

MOST_BITS = 12  # longest code
FULL = 1 << MOST_BITS  # entries of a full table
LEAST_SIZE, MOST_SIZE = 1, 11  # bits of a code for a single pixel
MORE_CODES = 65536  # codes processed at once after the table is full
PADDING = b"\0\0\0"  # allows reading three bytes wherever a code begins


def check(path: Path, frames: int) -> None:
    """Check the first frames of a file.

    Raises:
        CorruptImage: pixels are missing, or follow an invalid code.
    """
    with path.open("rb") as file:
        for number, (pixels, content) in enumerate(gif_images(Reader(file)), 1):
            if not _is_complete(content, pixels):
                raise CorruptImage(f"Frame {number} of the GIF lacks pixels: its data is damaged.")
            if number == frames:
                return


def _is_complete(content: bytes, pixels: int) -> bool:
    size = content[0] if content else 0
    if not LEAST_SIZE <= size <= MOST_SIZE:
        return False
    stream = _Stream(content[1:], size)
    while pixels > 0:
        made = stream.run(pixels)
        if made is None:
            return False
        pixels -= made
    return True


class _Stream:
    """A sequence of LZW codes, read in sections that each end with a clear code."""

    def __init__(self, content: bytes, size: int) -> None:
        self._bits = 8 * len(content)
        content += PADDING
        self._bytes = np.frombuffer(content, np.uint8).astype(np.int64)
        self._clear = 1 << size
        self._at = 0
        self._over = False

    def run(self, wanted: int) -> int | None:
        """The number of pixels in the next section; None if the data ends or is invalid before `wanted` pixels."""
        if self._over:
            return None
        widths, available = _layout(self._clear)
        codes, closed = self._take(widths)
        lengths = self._lengths(codes)
        made = np.cumsum(lengths[codes] if len(codes) else codes)
        fine = codes <= available[: len(codes)]
        if len(codes):
            fine[0] = codes[0] < self._clear
        if made.size and made[-1] >= wanted:  # data after the last pixel does not matter
            fine = fine[: int(np.searchsorted(made, wanted)) + 1]
            return wanted if fine.all() else None
        if not fine.all():
            return None
        total = int(made[-1]) if made.size else 0
        while not closed:
            codes, closed = self._take(np.full(MORE_CODES, MOST_BITS))
            total += int(lengths[codes].sum())
            if total >= wanted or (not closed and not len(codes)):
                break
        return total

    def _take(self, widths: Codes) -> tuple[Codes, bool]:
        """The next codes, of these widths in bits, and whether a clear code or the end follows them."""
        ends = self._at + np.cumsum(widths)
        ends = ends[: int(np.searchsorted(ends, self._bits, side="right"))]
        widths = widths[: len(ends)]
        starts = ends - widths
        at = starts >> 3
        window = self._bytes[at] | self._bytes[at + 1] << 8 | self._bytes[at + 2] << 16
        codes = window >> (starts & 7) & ((1 << widths) - 1)
        special = np.flatnonzero((codes == self._clear) | (codes == self._clear + 1))
        if not special.size:
            self._over = self._over or not len(codes)
            self._at = int(ends[-1]) if len(ends) else self._at
            return codes, self._over
        first = int(special[0])
        self._over = bool(codes[first] != self._clear)
        self._at = int(ends[first])
        return codes[:first], True

    def _lengths(self, codes: Codes) -> Codes:
        """The number of pixels that each entry of the table represents after these codes.

        Every code but the first adds an entry: the run of the previous code and one more pixel. So entries form a tree,
        and the length of an entry is its distance from the root. Pointer jumping finds it: each pass doubles the steps.
        """
        lengths = np.ones(FULL + 1, np.int64)
        first = self._clear + 2
        parents = codes[: min(max(len(codes) - 1, 0), FULL - first)]
        ahead = np.zeros(len(parents) + 1, np.int64)  # entries are counted from 1: 0 is the root
        ahead[1:] = np.where(parents < self._clear, 0, parents - first + 1)
        np.minimum(ahead, np.arange(len(ahead)) - 1, out=ahead)  # invalid codes are detected elsewhere
        ahead[0] = 0
        distance = np.ones(len(ahead), np.int64)
        distance[0] = 0
        while ahead.any():
            distance += distance[ahead]
            ahead = ahead[ahead]
        lengths[first : first + len(parents)] = distance[1:] + 1
        return lengths


@cache
def _layout(clear: int) -> tuple[Codes, Codes]:
    """The width in bits of each code of a section, and the highest valid value of each."""
    count = FULL - clear + 64
    available = np.minimum(clear + 2 + np.maximum(np.arange(count) - 1, 0), FULL)
    widths = np.frexp(available.astype(np.float64))[1].astype(np.int64)  # bits that a number needs
    least = int(clear).bit_length()
    return np.clip(widths, least, MOST_BITS), np.minimum(available, FULL - 1)
