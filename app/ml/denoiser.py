"""Denoisers run a network tile by tile, in bounded memory and with the same result as on the whole image."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import InvalidWeights
from app.ml import arithmetic, dncnn, unet_graph
from app.ml.noise_level import NoiseLevel
from app.ml.runtime import session
from app.ml.tiles import COLOURS, Colours, Geometry, OnTile, Pixels, Tiles, smallest_side
from app.ml.weights import fingerprint

BYTES_PER_PIXEL = 1100  # working memory per pixel of a tile in DnCNN; measured by benchmarks/denoise.py
GUIDED_BYTES_PER_PIXEL = 380  # the same for the residual U-Net
MIN_TILE = smallest_side(dncnn.HALO)


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """The weights of a network, and the limits within which it runs."""

    weights: Path
    #: working memory, in addition to the image itself
    memory_bytes: int
    #: 0: one per core
    threads: int = 0
    #: True: use the quantized form of a network if there is one
    int8: arithmetic.Mode = "no"


class Denoiser:
    """The network DnCNN, which needs no estimate of the noise; not thread-safe."""

    def __init__(self, config: DenoiserConfig) -> None:
        """Load the weights and run the network once, so that the first image does not have to wait.

        Raises:
            InvalidWeights: the file is not a DnCNN.
        """
        self.fingerprint = fingerprint(config.weights)
        self.arithmetic = arithmetic.FLOAT
        self._geometry = Geometry(halo=dncnn.HALO, side=_side(config.memory_bytes, BYTES_PER_PIXEL, dncnn.HALO))
        self._session = session(dncnn.to_onnx(dncnn.load(config.weights)), config.threads)
        _check_finite(self._noise, config.weights)

    def denoise(self, pixels: Pixels, *, strength: float = 1.0, on_tile: OnTile | None = None) -> float:
        """Remove the noise in place.

        Args:
            pixels: array of shape (height, width, channels), with 8 or 16 bits. The first three channels are RGB, or
                the only one is grey; further channels are unchanged.
            strength: share of the predicted noise to remove, 0..1.
            on_tile: called after each tile with the share of tiles done; an exception from it ends the work.

        Returns:
            Standard deviation of the predicted noise, on the 8-bit scale.
        """
        return _over_tiles(Tiles(pixels, self._geometry), self._noise, strength, on_tile)

    def _noise(self, colours: Colours) -> Colours:
        """The predicted noise, of the same shape (height, width, 3) and scale as the colours, 0..1."""
        planes = np.ascontiguousarray(colours.transpose(2, 0, 1))[None]
        noise: Colours = self._session.run([dncnn.OUTPUT], {dncnn.INPUT: planes})[0][0].transpose(1, 2, 0)
        return noise


class GuidedDenoiser:
    """The residual U-Net, which takes the strength of the noise as an input; not thread-safe."""

    def __init__(self, config: DenoiserConfig) -> None:
        """Load the weights and run the network once, so that the first image does not have to wait.

        Raises:
            InvalidWeights: the file does not contain a residual U-Net.
        """
        network = arithmetic.load(config.weights, config.int8, config.threads)
        self.fingerprint, self.arithmetic = network.fingerprint, network.arithmetic
        shape = network.shape
        self._align = shape.align
        side = _side(config.memory_bytes, GUIDED_BYTES_PER_PIXEL, shape.halo)
        self._geometry = Geometry(halo=shape.halo, align=shape.align, side=side)
        self._session = network.session
        some = NoiseLevel(slope=np.zeros(COLOURS, np.float32), base=np.full(COLOURS, 0.01, np.float32))
        _check_finite(lambda colours: self._noise(colours, some), config.weights)

    def denoise(
        self, pixels: Pixels, level: NoiseLevel, *, strength: float = 1.0, on_tile: OnTile | None = None
    ) -> float:
        """Remove noise of the given level in place; for arguments and return value see `Denoiser.denoise`."""
        tiles = Tiles(pixels, self._geometry)
        return _over_tiles(tiles, lambda colours: self._noise(colours, level), strength, on_tile)

    def _noise(self, colours: Colours, level: NoiseLevel) -> Colours:
        """The predicted noise, of the same shape (height, width, 3) and scale as the colours, 0..1."""
        height, width, _ = colours.shape
        missing = ((0, -height % self._align), (0, -width % self._align), (0, 0))
        planes = np.ascontiguousarray(np.pad(colours, missing, "edge").transpose(2, 0, 1))[None]
        slope, base = (values.reshape(1, COLOURS, 1, 1) for values in (level.slope, level.base))
        values = {unet_graph.NOISY: planes, unet_graph.SLOPE: slope, unet_graph.BASE: base}
        noise: Colours = self._session.run([unet_graph.OUTPUT], values)[0][0].transpose(1, 2, 0)[:height, :width]
        return noise


def _side(memory_bytes: int, bytes_per_pixel: int, halo: int) -> int:
    return max(smallest_side(halo), math.isqrt(memory_bytes // bytes_per_pixel))


def _over_tiles(tiles: Tiles, noise_of: Callable[[Colours], Colours], strength: float, on_tile: OnTile | None) -> float:
    """Remove the noise from every tile; returns its standard deviation on the 8-bit scale."""
    total, count = 0.0, 0
    for done, tile in enumerate(tiles, start=1):
        noise = tile.valid(noise_of(tile.colours))
        total += float(np.square(noise, dtype=np.float64).sum())
        count += noise.size
        tile.write(tile.valid(tile.colours) - strength * noise)
        if on_tile:
            on_tile(done / len(tiles))
    return math.sqrt(total / count) * 255


def _check_finite(noise_of: Callable[[Colours], Colours], weights: Path) -> None:
    if not np.isfinite(noise_of(np.zeros((MIN_TILE, MIN_TILE, COLOURS), np.float32))).all():
        raise InvalidWeights(f"{weights} holds numbers that are not finite.")
