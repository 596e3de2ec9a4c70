"""Training data for networks that take the noise level as an input: noisy patches and their noise maps."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from app.ml.noise_level import NoiseLevel
from app.ml.unet import BLOCK, COLOURS
from training.data import MAX_SIGMA, Pixels, arrived, random_patch

CLIPPED_SHARE = 0.7  # share of patches that are rounded and clipped to 8 bits
GREY_SHARE = 0.08  # share of patches that are grey and have grey noise
SHOT_SHARE = 0.4  # share of patches whose noise depends on the brightness
DARK_SHARE = 0.3  # share of the latter whose noise is stronger in the shadows, as after a tone curve
GAIN_SPREAD = 0.2  # standard deviation of the logarithm of the noise level among the three colours
MISJUDGED_SHARE = 0.5  # share of maps with a wrong factor, as in estimates
MISJUDGED_BY = 0.1  # standard deviation of the factor's logarithm
OVERRATED_SHARE = 0.25  # share of maps that are too high, as estimates are where there is fine texture
OVERRATED_BY = 1.0  # typical excess, on the scale 0..255

Values = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One patch, clean and noisy, (height, width, 3) in 0..255, and the noise level that the network gets."""

    clean: Values
    noisy: Values
    level: NoiseLevel

    def cut(self, side: int, random: np.random.Generator) -> "Sample":
        """A random square of the patch; offsets are multiples of the 2x2 blocks."""
        spare = self.clean.shape[0] - side
        if not spare:
            return self
        top, left = (int(random.integers(spare // BLOCK + 1)) * BLOCK for _ in range(2))
        rows, columns = slice(top, top + side), slice(left, left + side)
        return replace(self, clean=self.clean[rows, columns], noisy=self.noisy[rows, columns])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches (batch, 3, side, side) in 0..1; maps with half the side; the RMS noise of each patch in 0..255."""

    clean: Tensor
    noisy: Tensor
    noise_map: Tensor
    sigma: Tensor


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A kind of noise."""

    make: Callable[[Pixels, np.random.Generator], Sample]
    #: side in pixels of the square that gets noise, from which the patch is then cut; 0: the patch itself
    seen: int = 0


class NoisyPatches:
    """Random patches with noise. Batch `n` depends only on the seed and `n`: a resumed training gets the same ones."""

    def __init__(self, images: list[Pixels], noise: Noise, *, side: int, batch: int, seed: int) -> None:
        self._images = images
        self._noise = noise
        self._side = side
        self._batch = batch
        self._seed = seed

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng((self._seed, step))
        side = max(self._side, self._noise.seen)
        patches = [random_patch(self._images, side, random) for _ in range(self._batch)]
        samples = [self._noise.make(patch, random).cut(self._side, random) for patch in patches]
        clean, noisy = (_planes([getattr(sample, name) for sample in samples]) for name in ("clean", "noisy"))
        return Batch(
            clean=clean,
            noisy=noisy,
            noise_map=torch.cat(
                [noise_map(noisy[i : i + 1], misjudged(sample.level, random)) for i, sample in enumerate(samples)]
            ),
            sigma=(noisy - clean).square().mean(dim=(1, 2, 3)).sqrt() * 255,
        )


def _gaussian(patch: Pixels, random: np.random.Generator) -> Sample:
    """A sample with Gaussian noise, constant or depending on the brightness; mostly rounded and clipped to 8 bits."""
    grey = random.random() < GREY_SHARE
    clean = (_grey(patch) if grey else patch).astype(np.float32)
    level = _any_level(random, colours=1 if grey else COLOURS)
    deviation = np.sqrt(level.slope * clean / 255 + level.base) * 255
    normal = random.standard_normal(patch.shape, dtype=np.float32)
    noisy = clean + (normal[:, :, :1] if grey else normal) * deviation
    return Sample(clean=clean, noisy=arrived(noisy, random) if random.random() < CLIPPED_SHARE else noisy, level=level)


def _any_level(random: np.random.Generator, colours: int) -> NoiseLevel:
    """A random noise level for three colours; with `colours` = 1 the same for all three."""
    sigma = random.uniform(0, MAX_SIGMA)
    share = random.uniform(0, 1) if random.random() < SHOT_SHARE else 0.0
    spread = np.exp(random.standard_normal(colours) * GAIN_SPREAD * (share > 0))
    variance = np.broadcast_to((sigma / 255 * spread) ** 2, COLOURS).astype(np.float32)
    if random.random() < DARK_SHARE:
        return NoiseLevel(slope=-2 * share * variance, base=(1 + share) * variance)
    return NoiseLevel(slope=2 * share * variance, base=(1 - share) * variance)


def _grey(patch: Pixels) -> Pixels:
    return np.repeat(np.rint(patch.mean(axis=2, keepdims=True)), COLOURS, axis=2).astype(np.uint8)


def misjudged(level: NoiseLevel, random: np.random.Generator) -> NoiseLevel:
    """The level with the error of an estimate, so that the network learns not to rely on it alone."""
    factor = float(np.exp(random.standard_normal() * MISJUDGED_BY)) if random.random() < MISJUDGED_SHARE else 1.0
    more = abs(random.standard_normal()) * OVERRATED_BY / 255 if random.random() < OVERRATED_SHARE else 0.0
    return level.scaled(factor, more)


def noise_map(noisy: Tensor, level: NoiseLevel) -> Tensor:
    """The noise level of each 2x2 block, from the brightness around it; half the height and width of `noisy`."""
    light = functional.avg_pool2d(noisy, BLOCK).clamp(0, 1)
    light = functional.avg_pool2d(light, 3, stride=1, padding=1, count_include_pad=False)
    slope, base = (torch.from_numpy(values)[:, None, None] for values in (level.slope, level.base))
    return (light * slope + base).clamp_min(0).sqrt()


def _planes(patches: list[Values]) -> Tensor:
    stacked = np.ascontiguousarray(np.stack(patches).transpose(0, 3, 1, 2), dtype=np.float32)
    return torch.from_numpy(stacked).div_(255)


GAUSSIAN = Noise(make=_gaussian)
