"""Noisy patches of clean images, with noise like that of uploads."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MAX_SIGMA = 55.0  # standard deviation of the noise, on the scale 0..255
CLIPPED_SHARE = 0.5  # share of patches that are rounded and clipped to 8 bits, as uploads are
JPEG_SHARE = 0.2  # share of the clipped patches that are then compressed mildly
JPEG_QUALITY = (85, 98)

Pixels = NDArray[np.uint8]


def load_images(folder: Path) -> list[Pixels]:
    """All images of a folder, each (height, width, 3), in the order of their names.

    `folder` may end in a pattern: `photos/cid22-*`.
    """
    found = folder.iterdir() if folder.is_dir() else folder.parent.glob(folder.name)
    files = sorted(path for path in found if path.suffix.lower() in {".jpg", ".png", ".webp"})
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
    """Random patches. Batch `n` depends only on the seed and `n`, so a resumed training gets the same batches."""

    def __init__(self, images: list[Pixels], *, side: int, batch: int, seed: int) -> None:
        self._images = images
        self._side = side
        self._batch = batch
        self._seed = seed

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng((self._seed, step))
        clean = np.stack([random_patch(self._images, self._side, random) for _ in range(self._batch)])
        sigma = random.uniform(0, MAX_SIGMA, self._batch).astype(np.float32)
        noise = random.standard_normal(clean.shape, dtype=np.float32) * sigma[:, None, None, None]
        noisy = clean + noise
        for index in np.flatnonzero(random.random(self._batch) < CLIPPED_SHARE):
            noisy[index] = arrived(noisy[index], random)
        return Batch(clean=_tensor(clean), noisy=_tensor(noisy), sigma=torch.from_numpy(sigma))


def random_patch(images: list[Pixels], side: int, random: np.random.Generator) -> Pixels:
    """A random square of a random image, rotated and mirrored at random."""
    image = images[random.integers(len(images))]
    top = random.integers(image.shape[0] - side + 1)
    left = random.integers(image.shape[1] - side + 1)
    patch = image[top : top + side, left : left + side]
    patch = np.rot90(patch, random.integers(4))
    return patch[:, ::-1] if random.random() < 0.5 else patch


def eight_bit(values: NDArray[np.float32]) -> Pixels:
    """The values rounded and clipped to 0..255, as in a file."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def arrived(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The values as an upload would contain them: rounded and clipped to 8 bits and, at random, compressed as JPEG."""
    pixels = eight_bit(values)
    if random.random() < JPEG_SHARE:
        pixels = through_jpeg(pixels, JPEG_QUALITY, random)
    return pixels.astype(np.float32)


def through_jpeg(pixels: Pixels, qualities: tuple[int, int], random: np.random.Generator) -> Pixels:
    """The pixels after JPEG compression with a random quality within the limits, both included."""
    file = io.BytesIO()
    quality = int(random.integers(qualities[0], qualities[1] + 1))
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=int(random.choice([0, 2])))
    return np.asarray(Image.open(file))


def _tensor(values: NDArray[np.float32] | Pixels) -> Tensor:
    planes = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
    return torch.from_numpy(planes).div_(255)
