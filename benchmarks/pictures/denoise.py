"""The picture in docs: a photograph with two kinds of noise, denoised by each profile, and what `fast` took away.

python -m benchmarks picture-denoise astronaut.png docs/images/denoise.webp
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from app.config import FAST_WEIGHTS, WEIGHTS
from app.ml.denoiser import Denoiser, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import noise_level

SIGMA = 25  # of 255
QUALITY = 85  # of the JPEG file that the second row has been through
SIDE = 256  # pixels of each panel
MEMORY_BYTES = 256_000_000


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


def with_noise(clean: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(clean.shape) * SIGMA
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def through_jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))


def answers() -> dict[str, Callable[[np.ndarray], None]]:
    """By profile, what works on pixels in place."""
    exact = Denoiser(DenoiserConfig(weights=WEIGHTS, memory_bytes=MEMORY_BYTES))
    fast = GuidedDenoiser(DenoiserConfig(weights=FAST_WEIGHTS, memory_bytes=MEMORY_BYTES))
    return {"exact": exact.denoise, "fast": lambda pixels: fast.denoise(pixels, noise_level(pixels))}


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with Image.open(source) as image:
        scaled = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    # the noise is measured over the whole picture, and a part of it is shown
    left, top = ((size - SIDE) // 4 * 2 for size in scaled.size)
    clean = np.asarray(scaled)
    shown = np.s_[top : top + SIDE, left : left + SIDE]
    rows = []
    noisy = with_noise(clean)
    for kind, given in (("noisy", noisy), ("noisy, JPEG", through_jpeg(noisy))):
        panels, line = [given[shown]], f"{kind} {psnr(given, clean):.2f} dB"
        for profile, work in answers().items():
            pixels = given.copy()
            work(pixels)
            panels.append(pixels[shown])
            line += f", {profile} {psnr(pixels, clean):.2f} dB"
        panels.append(np.clip(panels[0].astype(float) - panels[-1] + 128, 0, 255).astype(np.uint8))
        rows.append(np.concatenate(panels, axis=1))
        print(line)
    Image.fromarray(np.concatenate(rows)).save(target, quality=90)
