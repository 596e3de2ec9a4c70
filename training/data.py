"""Clean images in, noisy patches out: noise as an upload brings it."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MAX_SIGMA = 55.0  # of 255
CLIPPED_SHARE = 0.5  # of the patches are rounded and clipped to 8 bit, as every upload is
JPEG_SHARE = 0.2  # of those are compressed, mildly, after the noise
JPEG_QUALITY = (85, 98)

Pixels = NDArray[np.uint8]


def load_images(folder: Path) -> list[Pixels]:
    """Every image of a folder as (height, width, 3), in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".png"})
    if not files:
        raise FileNotFoundError(f"there are no images in {folder}")
    return [np.asarray(Image.open(path).convert("RGB")) for path in files]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of shape (batch, 3, side, side) in 0..1, and the noise level of each in 0..255."""

    clean: Tensor
    noisy: Tensor
    sigma: Tensor


class Patches:
    """Random patches. Batch `n` depends on the seed and on `n` alone, so that a resumed training sees the same."""

    def __init__(self, images: list[Pixels], *, side: int, batch: int, seed: int) -> None:
        self._images = images
        self._side = side
        self._batch = batch
        self._seed = seed

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng((self._seed, step))
        clean = np.stack([self._patch(random) for _ in range(self._batch)])
        sigma = random.uniform(0, MAX_SIGMA, self._batch).astype(np.float32)
        noise = random.standard_normal(clean.shape, dtype=np.float32) * sigma[:, None, None, None]
        noisy = clean + noise
        for index in np.flatnonzero(random.random(self._batch) < CLIPPED_SHARE):
            noisy[index] = _arrived(noisy[index], random)
        return Batch(clean=_tensor(clean), noisy=_tensor(noisy), sigma=torch.from_numpy(sigma))

    def _patch(self, random: np.random.Generator) -> Pixels:
        image = self._images[random.integers(len(self._images))]
        top = random.integers(image.shape[0] - self._side + 1)
        left = random.integers(image.shape[1] - self._side + 1)
        patch = image[top : top + self._side, left : left + self._side]
        patch = np.rot90(patch, random.integers(4))
        return patch[:, ::-1] if random.random() < 0.5 else patch


def eight_bit(values: NDArray[np.float32]) -> Pixels:
    """Rounded and clipped: what a file holds."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _arrived(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    pixels = eight_bit(values)
    if random.random() < JPEG_SHARE:
        file = io.BytesIO()
        quality = int(random.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=int(random.choice([0, 2])))
        pixels = np.asarray(Image.open(file))
    return pixels.astype(np.float32)


def _tensor(values: NDArray[np.float32] | Pixels) -> Tensor:
    planes = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
    return torch.from_numpy(planes).div_(255)
