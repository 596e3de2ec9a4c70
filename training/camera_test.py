"""The held-out test of camera noise: photographs, crops and cameras, none of which were used in training.

    python -m training.camera_test PHOTOS FOLDER

PHOTOS holds `clic-00.webp` to `clic-25.webp`. `NAME-ISO-clean.png` and `NAME-ISO-noisy.png` are written to FOLDER; the
seed makes them the same in every run. The noisy images include the camera's JPEG losses; PNG adds none.
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
SIDE = 384  # side in pixels of the central crop, whose offsets are even


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One crop without noise, and the same crop from the camera's file; both (height, width, 3)."""

    name: str
    iso: int
    clean: Pixels
    noisy: Pixels


def pairs(photos: Path) -> Iterator[Pair]:
    """All pairs, ordered by name and then by ISO value."""
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
