"""Draws a picture for the docs: a photograph with three kinds of noise, denoised by each profile.

python -m benchmarks picture-denoise PHOTOGRAPH docs/images/denoise.webp
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from app.config import CAMERA_WEIGHTS, FAST_WEIGHTS, WEIGHTS
from app.ml.denoiser import Denoiser, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import noise_level
from benchmarks.denoise import ROOT, TRAINING_PYTHON

SIGMA = 25  # standard deviation of the noise, of 255
QUALITY = 85  # of the JPEG compression in the second row
ISO = 3200  # of the camera in the third row
SIDE = 256  # pixels of each panel
MEMORY_BYTES = 256_000_000

TAKEN = """
import sys
import numpy as np
from training.camera import at_iso, taken
photograph, clean, noisy = sys.argv[1:4]
random = np.random.default_rng(1)
without, with_noise = taken(at_iso(float(sys.argv[4]), random), np.load(photograph), random)
np.save(clean, np.clip(np.rint(without), 0, 255).astype(np.uint8))
np.save(noisy, with_noise)
"""


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


def with_noise(clean: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(clean.shape) * SIGMA
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def through_jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))


def by_camera(photograph: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photograph without and with noise from the camera model in training/, which needs OpenCV."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{name}.npy") for name in ("photograph", "clean", "noisy")]
        np.save(files[0], photograph)
        subprocess.run([TRAINING_PYTHON, "-c", TAKEN, *files, str(ISO)], cwd=ROOT, check=True)
        return np.load(files[1]), np.load(files[2])


def kinds(clean: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The kinds of noise: name, pixels without noise, and pixels with it."""
    noisy = with_noise(clean)
    yield f"sigma {SIGMA}", clean, noisy
    yield f"sigma {SIGMA}, JPEG {QUALITY}", clean, through_jpeg(noisy)
    yield f"camera, ISO {ISO}", *by_camera(clean)


def answers() -> dict[str, Callable[[np.ndarray], object]]:
    """The denoiser of each profile, which works in place."""

    def guided(weights: Path) -> Callable[[np.ndarray], object]:
        network = GuidedDenoiser(DenoiserConfig(weights=weights, memory_bytes=MEMORY_BYTES))
        return lambda pixels: network.denoise(pixels, noise_level(pixels))

    exact = Denoiser(DenoiserConfig(weights=WEIGHTS, memory_bytes=MEMORY_BYTES))
    return {"exact": exact.denoise, "fast": guided(FAST_WEIGHTS), "camera": guided(CAMERA_WEIGHTS)}


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with Image.open(source) as image:
        scaled = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    # the noise is measured over the whole picture, but only a part of it is shown
    left, top = ((size - SIDE) // 4 * 2 for size in scaled.size)
    shown = np.s_[top : top + SIDE, left : left + SIDE]
    works = answers()
    rows = []
    for kind, clean, given in kinds(np.asarray(scaled)):
        panels, line = [given[shown]], f"{kind} {psnr(given, clean):.2f} dB"
        for profile, work in works.items():
            pixels = given.copy()
            work(pixels)
            panels.append(pixels[shown])
            line += f", {profile} {psnr(pixels, clean):.2f} dB"
        rows.append(np.concatenate(panels, axis=1))
        print(line)
    Image.fromarray(np.concatenate(rows)).save(target, quality=90)
