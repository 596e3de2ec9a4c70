"""PSNR of a network of `training/networks.py`, given the true noise level or the level measured in the image.

    python -m training.evaluate_network NAME WEIGHTS IMAGES
    python -m training.evaluate_network NAME WEIGHTS --camera PHOTOS

The second form runs the held-out camera test, always with the measured level.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from app.ml.noise_level import NoiseLevel, noise_level
from app.ml.unet import COLOURS
from training.camera_test import ISOS, pairs
from training.data import Pixels, eight_bit, load_images
from training.evaluate import SEED, SIGMAS, psnr
from training.networks import CANDIDATES, Network
from training.noise import noise_map

LevelOf = Callable[[Pixels], NoiseLevel]


def even(sigma: float) -> NoiseLevel:
    """A noise level that does not depend on the brightness; `sigma` in 0..255."""
    zeros = np.zeros(COLOURS, np.float32)
    return NoiseLevel(slope=zeros, base=zeros + np.float32(sigma / 255) ** 2)


def denoised(net: Network, noisy: np.ndarray, level: NoiseLevel) -> Pixels:
    """One image (height, width, 3) in 0..255 as the network denoises it, with 8 bits."""
    height, width = noisy.shape[:2]
    align = net.shape.align
    padded = np.pad(noisy, ((0, -height % align), (0, -width % align), (0, 0)), "edge")
    planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)).div_(255)[None]
    with torch.inference_mode():
        clean = planes - net(planes.contiguous(memory_format=torch.channels_last), noise_map(planes, level))
    return eight_bit(clean[0].numpy().transpose(1, 2, 0)[:height, :width] * 255)


def mean_psnr(net: Network, images: list[Pixels], sigma: float, *, clipped: bool, level_of: LevelOf) -> float:
    """Mean PSNR in dB over the images; the noise of image `n` is the same as in `training.evaluate`."""
    values = []
    for index, image in enumerate(images):
        random = np.random.default_rng((SEED, index))
        noisy = image + random.standard_normal(image.shape) * sigma
        seen = eight_bit(noisy)
        values.append(psnr(denoised(net, seen if clipped else noisy, level_of(seen)), image))
    return float(np.mean(values))


def validation_line(net: Network, images: list[Pixels]) -> str:
    """A part of a log line: PSNR at 8 bits, given the true level."""
    figures = (
        mean_psnr(net, images, sigma, clipped=True, level_of=lambda _, sigma=sigma: even(sigma)) for sigma in SIGMAS
    )
    return " 8 bit 15/25/50: " + "/".join(f"{figure:.2f}" for figure in figures)


def _print_even(net: Network, images: list[Pixels]) -> None:
    print(f"{len(images)} images, PSNR in dB")
    print("sigma   float  8 bit  8 bit, level found")
    for sigma in SIGMAS:
        given: LevelOf = lambda _, sigma=sigma: even(sigma)  # noqa: E731 - a name for its type
        ways = ((False, given), (True, given), (True, noise_level))
        figures = [mean_psnr(net, images, sigma, clipped=clipped, level_of=level_of) for clipped, level_of in ways]
        print(f"{sigma:5} {figures[0]:7.2f} {figures[1]:6.2f} {figures[2]:6.2f}", flush=True)


def _print_camera(net: Network, photos: Path) -> None:
    figures: dict[int, list[tuple[float, float]]] = {iso: [] for iso in ISOS}
    for pair in pairs(photos):
        answer = denoised(net, pair.noisy, noise_level(pair.noisy))
        figures[pair.iso].append((psnr(pair.noisy, pair.clean), psnr(answer, pair.clean)))
    print(" ISO  noisy  denoised, PSNR in dB")
    for iso, found in figures.items():
        print(f"{iso:4} {np.mean(found, axis=0)[0]:6.2f} {np.mean(found, axis=0)[1]:6.2f}", flush=True)


def main() -> None:
    name, weights, *source = sys.argv[1:]
    net = Network(CANDIDATES[name])
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.to(memory_format=torch.channels_last).eval()
    if source[0] == "--camera":
        _print_camera(net, Path(source[1]))
    else:
        _print_even(net, load_images(Path(source[0])))


if __name__ == "__main__":
    main()
