"""The tiles of an image, which go through a network one by one; results are written back in place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.ml.tiling import Window, windows

COLOURS = 3

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Colours = NDArray[np.float32]
OnTile = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The geometry of a network's tiles."""

    #: radius of the network's receptive field in pixels
    halo: int
    #: tiles begin at multiples of this number of pixels
    align: int = 1
    #: side of a square tile in pixels
    side: int


def smallest_side(halo: int) -> int:
    """The smallest useful side of a tile in pixels; with smaller tiles, nearly everything would be computed twice."""
    return 4 * halo


def colours_of(pixels: Pixels) -> Colours:
    """Convert pixels with any number of channels to RGB, (height, width, 3), 0..1; grey is repeated."""
    colours = pixels[:, :, :COLOURS] if pixels.shape[2] >= COLOURS else np.repeat(pixels[:, :, :1], COLOURS, axis=2)
    return colours.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


@dataclass(frozen=True)
class Tile:
    """A part of an image; writing to it changes the image."""

    #: the pixels before any tile was written, halo included
    colours: Colours
    #: the part in which results are valid
    rows: slice
    columns: slice
    target: Pixels

    def valid(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values[self.rows, self.columns]

    def write(self, values: NDArray[np.float32]) -> None:
        channels = min(self.target.shape[2], COLOURS)
        if channels < COLOURS:
            values, channels = values.mean(axis=2, keepdims=True), 1
        most = np.iinfo(self.target.dtype).max
        self.target[:, :, :channels] = np.clip(np.rint(values * np.float32(most)), 0, most)


class Tiles:
    """All tiles of an image.

    Results overwrite the image, so the original pixels that later tiles need are copied: a whole row of tiles, and the
    lines that overlap with the next row.
    """

    def __init__(self, pixels: Pixels, geometry: Geometry) -> None:
        self._pixels = pixels
        height, width, _ = pixels.shape
        self._columns = _windows(width, height, geometry)
        self._rows = _windows(height, width, geometry)

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def __iter__(self) -> Iterator[Tile]:
        overwritten = self._pixels[:0]
        for index, row in enumerate(self._rows):
            strip = self._pixels[row.begin : row.end].copy()
            strip[: len(overwritten)] = overwritten
            if index + 1 < len(self._rows):
                overwritten = strip[self._rows[index + 1].begin - row.begin : row.valid_end - row.begin].copy()
            for column in self._columns:
                yield self._tile(strip, row, column)

    def _tile(self, strip: Pixels, row: Window, column: Window) -> Tile:
        return Tile(
            colours=colours_of(strip[:, column.begin : column.end]),
            rows=slice(row.valid_begin - row.begin, row.valid_end - row.begin),
            columns=slice(column.valid_begin - column.begin, column.valid_end - column.begin),
            target=self._pixels[row.valid_begin : row.valid_end, column.valid_begin : column.valid_end],
        )


def _windows(size: int, other: int, geometry: Geometry) -> list[Window]:
    """The windows along one axis. They are longer if the other axis is short, which saves halos for the same memory."""
    longest = max(smallest_side(geometry.halo), geometry.side**2 // max(1, min(other, geometry.side)))
    return windows(size, longest, geometry.halo, geometry.align)
