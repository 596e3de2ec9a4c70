"""PSNR of a network of `training/networks.py` that is told the true noise level.

python -m training.evaluate_network NAME WEIGHTS IMAGES
"""

import sys
from pathlib import Path

import numpy as np
import torch

from app.ml.unet import BLOCK, COLOURS
from training.data import Pixels, eight_bit, load_images
from training.evaluate import SEED, SIGMAS, psnr
from training.networks import CANDIDATES, Network


def denoised(net: Network, noisy: np.ndarray, sigma: float) -> Pixels:
    """The network's answer for one image (height, width, 3) in 0..255, as 8 bit."""
    height, width = noisy.shape[:2]
    align = net.shape.align
    padded = np.pad(noisy, ((0, -height % align), (0, -width % align), (0, 0)), "edge")
    planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)).div_(255)[None]
    noise_map = torch.full((1, COLOURS, planes.shape[2] // BLOCK, planes.shape[3] // BLOCK), sigma / 255)
    with torch.inference_mode():
        clean = planes - net(planes.contiguous(memory_format=torch.channels_last), noise_map)
    return eight_bit(clean[0].numpy().transpose(1, 2, 0)[:height, :width] * 255)


def mean_psnr(net: Network, images: list[Pixels], sigma: float, *, clipped: bool) -> float:
    """Mean over the images; the noise of image `n` is the one of `training.evaluate`."""
    values = []
    for index, image in enumerate(images):
        random = np.random.default_rng((SEED, index))
        noisy = image + random.standard_normal(image.shape) * sigma
        values.append(psnr(denoised(net, eight_bit(noisy) if clipped else noisy, sigma), image))
    return float(np.mean(values))


def validation_line(net: Network, images: list[Pixels]) -> str:
    figures = (f"{mean_psnr(net, images, sigma, clipped=True):.2f}" for sigma in SIGMAS)
    return " 8 bit 15/25/50: " + "/".join(figures)


def main() -> None:
    name, weights, folder = sys.argv[1:]
    net = Network(CANDIDATES[name])
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.to(memory_format=torch.channels_last).eval()
    images = load_images(Path(folder))
    print(f"{name}: {len(images)} images, PSNR in dB")
    print("sigma   float  8 bit")
    for sigma in SIGMAS:
        figures = [mean_psnr(net, images, sigma, clipped=clipped) for clipped in (False, True)]
        print(f"{sigma:5} {figures[0]:7.2f} {figures[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
