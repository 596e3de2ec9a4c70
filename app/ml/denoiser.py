"""DnCNN at work: exact on images of any size, in bounded memory."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidWeights
from app.ml import dncnn
from app.ml.tiling import Window, windows

# Read while it is loaded. Its official builds send events to their maker by default, with a lasting id of the machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

COLOURS = 3
BYTES_PER_PIXEL = 1100  # of working memory while a tile goes through the network; measured by benchmarks/denoise.py
MIN_TILE = 4 * dncnn.HALO  # pixels; below it nearly everything would be computed twice
SAMPLES = 3  # tiles along each axis that an estimate looks at
SAMPLE_SIDE = 128  # pixels
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that there is

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
OnTile = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """How a process runs the network."""

    weights: Path
    #: working memory beside the image itself
    memory_bytes: int
    #: 0: one for each core
    threads: int = 0


class Denoiser:
    """A loaded network; one at a time works with it."""

    def __init__(self, config: DenoiserConfig) -> None:
        """Load the weights and run the network once, so that the first image waits for nothing.

        Raises:
            InvalidWeights: the file is not a DnCNN.
        """
        self._tile = max(MIN_TILE, math.isqrt(config.memory_bytes // BYTES_PER_PIXEL))
        model = dncnn.to_onnx(dncnn.load(config.weights))
        available = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in available]
        self._session = onnxruntime.InferenceSession(model, _options(config), providers=providers)
        if not np.isfinite(self._noise(np.zeros((MIN_TILE, MIN_TILE, COLOURS), np.float32))).all():
            raise InvalidWeights(f"{config.weights} holds numbers that are not finite.")

    def denoise(self, pixels: Pixels, *, strength: float = 1.0, on_tile: OnTile | None = None) -> float:
        """Remove the noise in place.

        Args:
            pixels: (height, width, channels) of 8 or 16 bit; the first three channels are RGB, a single one is grey.
                Further channels stay as they are.
            strength: share of the predicted noise that is removed, 0..1.
            on_tile: called after each tile with the share that is done; what it raises ends the work.

        Returns:
            Standard deviation of the predicted noise, on the scale of 8 bit.
        """
        tiles = _Tiles(pixels, self._tile)
        total = 0.0
        for done, tile in enumerate(tiles, start=1):
            noise = tile.valid(self._noise(tile.colours))
            total += float(np.square(noise, dtype=np.float64).sum())
            tile.write(tile.valid(tile.colours) - strength * noise)
            if on_tile:
                on_tile(done / len(tiles))
        return math.sqrt(total / (pixels.shape[0] * pixels.shape[1] * COLOURS)) * 255

    def estimate(self, pixels: Pixels) -> float:
        """Standard deviation of the noise on the scale of 8 bit, from a few places of the image."""
        places = [(row, column) for row in _places(pixels.shape[0]) for column in _places(pixels.shape[1])]
        squares = [np.square(self._noise(_colours(pixels[row, column]))).mean() for row, column in places]
        return math.sqrt(float(np.mean(squares))) * 255

    def _noise(self, colours: NDArray[np.float32]) -> NDArray[np.float32]:
        """The predicted noise of (height, width, 3) in 0..1."""
        planes = np.ascontiguousarray(colours.transpose(2, 0, 1))[None]
        noise: NDArray[np.float32] = self._session.run([dncnn.OUTPUT], {dncnn.INPUT: planes})[0]
        return noise[0].transpose(1, 2, 0)  # type: ignore[no-any-return]  # numpy's own


def _options(config: DenoiserConfig) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads or len(os.sched_getaffinity(0))
    # Threads that wait must sleep: the cores may be shared with a server and with other workers
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return options


def _places(size: int) -> Iterator[slice]:
    count = min(SAMPLES, max(1, size // SAMPLE_SIDE))
    for index in range(count):
        begin = (size - min(size, SAMPLE_SIDE)) * (2 * index + 1) // (2 * count)
        yield slice(begin, begin + SAMPLE_SIDE)


def _colours(pixels: Pixels) -> NDArray[np.float32]:
    """RGB in 0..1 of pixels with any number of channels."""
    colours = pixels[:, :, :COLOURS] if pixels.shape[2] >= COLOURS else np.repeat(pixels[:, :, :1], COLOURS, axis=2)
    return colours.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


@dataclass(frozen=True)
class _Tile:
    """One piece of an image; writing to it changes the image."""

    #: as it was before any tile was written, halo included
    colours: NDArray[np.float32]
    #: what of it is answered for
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


class _Tiles:
    """All tiles of an image. They are written over their own source, so the pixels that a later tile still has to see
    are kept: within a row of tiles as a copy of that row, between two rows as a few lines."""

    def __init__(self, pixels: Pixels, side: int) -> None:
        self._pixels = pixels
        height, width, _ = pixels.shape
        # What one side does not need, the other one may have: few halos, the same memory
        tall = max(MIN_TILE, side * side // max(1, min(width, side)))
        self._columns = windows(width, max(MIN_TILE, side * side // max(1, min(height, side))), dncnn.HALO)
        self._rows = windows(height, tall, dncnn.HALO)

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def __iter__(self) -> Iterator[_Tile]:
        overwritten = self._pixels[:0]
        for index, row in enumerate(self._rows):
            strip = self._pixels[row.begin : row.end].copy()
            strip[: len(overwritten)] = overwritten
            if index + 1 < len(self._rows):
                overwritten = strip[self._rows[index + 1].begin - row.begin : row.valid_end - row.begin].copy()
            for column in self._columns:
                yield self._tile(strip, row, column)

    def _tile(self, strip: Pixels, row: Window, column: Window) -> _Tile:
        return _Tile(
            colours=_colours(strip[:, column.begin : column.end]),
            rows=slice(row.valid_begin - row.begin, row.valid_end - row.begin),
            columns=slice(column.valid_begin - column.begin, column.valid_end - column.begin),
            target=self._pixels[row.valid_begin : row.valid_end, column.valid_begin : column.valid_end],
        )
