"""Estimates the strength of the noise in an image as a function of brightness, without a network.

Noise is measured where the picture is smooth. Blocks of 8x8 pixels from all over the image go through a discrete cosine
transform. The low frequencies show which blocks are smooth, the high ones the strength of the noise in them. In noise
the two are independent, so selecting blocks by the low ones does not bias the high ones. This is repeated for several
levels of brightness, and a straight line is fitted to the results.

Demosaicing and JPEG remove the high frequencies of a camera's noise and leave the middle ones. The ratio of the two
distinguishes camera noise from noise that was added to a finished image, which is equally strong in all frequencies.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels
CROP = 64  # pixels
CROPS = 12  # along each axis, at most
LIGHTS = 8  # levels of brightness
SMOOTH_SHARE = 0.12  # share of the blocks of a level that count as smooth
MIN_BLOCKS = 6  # per level
MIN_SHARE = 0.05  # minimum share of blocks away from black and white; with fewer, blocks near them count too
LOW = 4  # frequencies (sum of both axes) up to this one show which blocks are smooth
HIGH = 8  # frequencies from this one on show the noise; those between show whether it has been smoothed
MEDIAN_OF_MEAN = 0.976  # median of the mean of 28 squared standard normal numbers: there are 28 high frequencies
FIRST_CUT = 0.04  # blocks this close to black or white are not used, because their noise is clipped
CUT = 2.2  # the same in standard deviations of the noise, once these are known
LARGEST_CUT = 0.35
CUT_ROUNDS = 3
FIT_ROUNDS = 4
LEAST = 1e-7  # smallest variance to divide by
COLOURS = 3
VARIES = 1.5  # ratio of the largest to the smallest deviation from which noise counts as varying
SMOOTHED = 2.5  # ratio of middle to high frequencies; camera noise has 3 to 10, other noise 0.9 to 2.2

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class NoiseLevel:
    """Variance of the noise for values in 0..1: `slope` * brightness + `base`, both of shape (3,), for RGB."""

    slope: Floats
    base: Floats
    #: mean brightness of the image
    light: float = 0.5
    #: variance in the middle frequencies divided by that in the high ones
    softness: float = 1.0

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise over the whole image, on the 8-bit scale."""
        return math.sqrt(float(np.maximum(0, self.slope * self.light + self.base).mean())) * 255

    @property
    def varies(self) -> bool:
        """Whether the noise depends on brightness or colour, as that of a camera does."""
        deviations = np.sqrt(np.maximum(self.slope * _SOME_LIGHTS + self.base, LEAST))
        return bool(deviations.max() > VARIES * deviations.min())

    @property
    def is_smoothed(self) -> bool:
        """Whether demosaicing has smoothed the noise, as in photographs of a camera."""
        return self.softness > SMOOTHED

    def scaled(self, factor: float, more: float = 0.0) -> "NoiseLevel":
        """The level of this noise times `factor`, plus noise with the standard deviation `more` on the scale 0..1."""
        return replace(self, slope=self.slope * factor**2, base=self.base * factor**2 + more**2)


def noise_level(pixels: Pixels) -> NoiseLevel:
    """Estimate the noise of pixels (height, width, channels) with 8 or 16 bits; the first channels are RGB or grey."""
    channels = COLOURS if pixels.shape[2] >= COLOURS else 1
    blocks = _blocks(pixels[:, :, :channels])
    found = [_line_of(blocks[:, :, :, channel]) for channel in range(channels)]
    slope, base, softness = np.array(found * (COLOURS // channels), np.float32).T
    return NoiseLevel(slope=slope, base=base, light=float(blocks.mean()), softness=float(np.median(softness)))


def _blocks(pixels: Pixels) -> Floats:
    """Blocks from all over the image, (count, 8, 8, channels) in 0..1; smaller images are extended by reflection."""
    most = np.float32(np.iinfo(pixels.dtype).max)
    missing = [max(0, BLOCK - size) for size in pixels.shape[:2]]
    if any(missing):
        return _blocks(np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric"))  # type: ignore[arg-type]
    parts = [_cut(pixels[row, column]) for row in _places(pixels.shape[0]) for column in _places(pixels.shape[1])]
    return np.concatenate(parts).astype(np.float32) / most


def _places(size: int) -> Iterator[slice]:
    """Evenly spread ranges of crops along one axis; the whole axis if it is short."""
    count = min(CROPS, max(1, size // CROP))
    length = size if size < CROP * (count + 1) else CROP
    if count * length >= size:
        length = size // count
    for index in range(count):
        begin = (size - length) * (2 * index + 1) // (2 * count)
        yield slice(begin, begin + length)


def _cut(crop: Pixels) -> Pixels:
    rows, columns = (size // BLOCK for size in crop.shape[:2])
    whole = crop[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, -1)
    return whole.transpose(0, 2, 1, 3, 4).reshape(rows * columns, BLOCK, BLOCK, -1)


def _line_of(blocks: Floats) -> tuple[float, float, float]:
    """Slope, base and softness of the noise in the blocks of one channel, (count, 8, 8)."""
    light = blocks.mean(axis=(1, 2))
    squares = np.square(_TRANSFORM @ blocks @ _TRANSFORM.T)
    structure = squares[:, _FREQUENCY_IS_LOW].sum(axis=1)
    noise = squares[:, _FREQUENCY_IS_HIGH].mean(axis=1)
    cut, line = FIRST_CUT, _line(*_levels(light, structure, noise))
    for _ in range(CUT_ROUNDS):
        inside = (light > cut) & (light < 1 - cut)
        if inside.sum() < max(2 * MIN_BLOCKS, MIN_SHARE * len(light)):
            break
        line = _line(*_levels(light[inside], structure[inside], noise[inside]))
        cut = min(LARGEST_CUT, CUT * math.sqrt(max(0.0, line[0] / 2 + line[1])))
    return *line, _softness(light, structure, noise, squares[:, _FREQUENCY_IS_MIDDLE].mean(axis=1))


def _softness(light: Floats, structure: Floats, noise: Floats, middle: Floats) -> float:
    inside = np.flatnonzero((light > FIRST_CUT) & (light < 1 - FIRST_CUT))
    if len(inside) < 2 * MIN_BLOCKS:
        return 1.0
    count = max(2 * MIN_BLOCKS, int(len(inside) * SMOOTH_SHARE))
    smooth = inside[np.argsort(structure[inside], kind="stable")[:count]]
    return float(np.median(middle[smooth]) / max(float(np.median(noise[smooth])), LEAST))


def _levels(light: Floats, structure: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """The mean brightness of the smooth blocks at each level, and the variance of their noise."""
    order = np.argsort(light, kind="stable")
    levels = np.array_split(order, max(1, min(LIGHTS, len(order) // (MIN_BLOCKS * 4))))
    counts = [max(MIN_BLOCKS, int(len(level) * SMOOTH_SHARE)) for level in levels]
    smooth = [level[np.argsort(structure[level])[:count]] for level, count in zip(levels, counts, strict=True)]
    return (
        np.array([light[level].mean() for level in smooth], np.float32),
        np.array([np.median(noise[level]) for level in smooth], np.float32) / MEDIAN_OF_MEAN,
    )


def _line(light: Floats, variance: Floats) -> tuple[float, float]:
    """Slope and base of a robust fit. Texture only adds variance, so points above the line weigh less."""
    weights = 1 / np.maximum(variance, LEAST) ** 2
    slope, base = 0.0, float(variance.min())
    for _ in range(FIT_ROUNDS):
        total = weights.sum()
        mean_light, mean_variance = (weights * light).sum() / total, (weights * variance).sum() / total
        spread = (weights * (light - mean_light) ** 2).sum() / total
        slope = (weights * (light - mean_light) * (variance - mean_variance)).sum() / total / (spread + 1e-3)
        base = mean_variance - slope * mean_light
        fitted = np.maximum(slope * light + base, LEAST)
        weights = 1 / fitted**2 / np.maximum(1, variance / fitted) ** 4
    return float(slope), float(base)


def _transform() -> Floats:
    """The matrix of the orthonormal discrete cosine transform of 8 numbers."""
    frequency, place = np.mgrid[:BLOCK, :BLOCK]
    waves = np.cos((2 * place + 1) * frequency * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    return np.asarray(waves, np.float32)


_SOME_LIGHTS = np.array([[0.25], [0.75]], np.float32)
_TRANSFORM = _transform()
_FREQUENCY = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
_FREQUENCY_IS_LOW = (_FREQUENCY > 0) & (_FREQUENCY <= LOW)
_FREQUENCY_IS_MIDDLE = (_FREQUENCY > LOW) & (_FREQUENCY < HIGH)
_FREQUENCY_IS_HIGH = _FREQUENCY >= HIGH
