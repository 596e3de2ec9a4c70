"""The picture in docs: a photograph with noise of sigma 25, denoised, and what was taken away.

.venv/bin/python benchmarks/denoise_picture.py astronaut.png docs/denoise.webp
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from app.config import WEIGHTS
from app.ml.denoiser import Denoiser, DenoiserConfig

SIGMA = 25  # of 255
SIDE = 256  # pixels of each panel


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with Image.open(source) as image:
        scaled = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    left, top = (scaled.width - SIDE) // 2, (scaled.height - SIDE) // 2
    clean = np.asarray(scaled.crop((left, top, left + SIDE, top + SIDE)))
    noise = np.random.default_rng(0).standard_normal(clean.shape) * SIGMA
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    denoised = noisy.copy()
    Denoiser(DenoiserConfig(weights=WEIGHTS, memory_bytes=256_000_000)).denoise(denoised)
    removed = np.clip((noisy.astype(float) - denoised) + 128, 0, 255).astype(np.uint8)
    Image.fromarray(np.concatenate([noisy, denoised, removed], axis=1)).save(target, quality=92)
    print(f"noisy {psnr(noisy, clean):.2f} dB, denoised {psnr(denoised, clean):.2f} dB")


if __name__ == "__main__":
    main()
