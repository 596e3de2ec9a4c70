"""The held-out test of camera noise: which photographs, which crops, which cameras; nothing of it was trained on.

    python -m training.camera_test PHOTOS FOLDER

PHOTOS holds `clic-00.webp` to `clic-25.webp`. FOLDER gets `NAME-ISO-clean.png` and `NAME-ISO-noisy.png`, the same ones
for the same seed. The noisy ones have been through JPEG already; PNG keeps them as they are.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.camera import at_iso, taken
from training.data import Pixels, eight_bit

SEED = 20261129
NAMES = tuple(f"clic-{index:02}" for index in range(26))
ISOS = (400, 1600, 6400)
SIDE = 384  # pixels of the crop in the middle; even offsets


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One crop without noise, and as the camera's file has it."""

    name: str
    iso: int
    clean: Pixels
    noisy: Pixels


def pairs(photos: Path) -> Iterator[Pair]:
    """In the order of names, then of ISO values."""
    for index, name in enumerate(NAMES):
        crop = _middle(np.asarray(Image.open(photos / f"{name}.webp").convert("RGB")))
        for iso in ISOS:
            random = np.random.default_rng((SEED, index, iso))
            clean, noisy = taken(at_iso(iso, random), crop, random)
            yield Pair(name=name, iso=iso, clean=eight_bit(clean), noisy=noisy)


def _middle(photograph: Pixels) -> Pixels:
    top, left = (max(0, size - SIDE) // 4 * 2 for size in photograph.shape[:2])
    return photograph[top : top + SIDE, left : left + SIDE]


def main() -> None:
    photos, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs(photos):
        for kind, pixels in (("clean", pair.clean), ("noisy", pair.noisy)):
            Image.fromarray(pixels).save(folder / f"{pair.name}-{pair.iso}-{kind}.png")


if __name__ == "__main__":
    main()
