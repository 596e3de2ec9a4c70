"""PSNR of a checkpoint on a folder of clean images, with noise as floats and rounded to 8 bits.

python -m training.evaluate CHECKPOINT IMAGES
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from training.data import Pixels, eight_bit, load_images
from training.model import DnCNN

SIGMAS = (15, 25, 50)  # standard deviations of the noise, on the scale 0..255
SEED = 0


def psnr(first: Pixels, second: Pixels) -> float:
    """PSNR in dB, over all channels of two 8-bit images."""
    error = np.mean((first.astype(np.float64) - second) ** 2)
    return float(10 * np.log10(255**2 / error))


def denoised(net: torch.nn.Module, noisy: np.ndarray) -> Pixels:
    """One image (height, width, 3) in 0..255 as the network denoises it, with 8 bits."""
    planes = torch.from_numpy(np.ascontiguousarray(noisy.transpose(2, 0, 1), dtype=np.float32)).div_(255)[None]
    with torch.inference_mode():
        clean = net(planes.contiguous(memory_format=torch.channels_last))[0]
    return eight_bit(clean.numpy().transpose(1, 2, 0) * 255)


def mean_psnr(net: torch.nn.Module, images: Iterable[Pixels], sigma: float, *, clipped: bool) -> float:
    """Mean PSNR in dB over the images; the noise of image `n` is the same for all networks."""
    values = []
    for index, image in enumerate(images):
        random = np.random.default_rng((SEED, index))
        noisy = image + random.standard_normal(image.shape) * sigma
        values.append(psnr(denoised(net, eight_bit(noisy) if clipped else noisy), image))
    return float(np.mean(values))


def main() -> None:
    checkpoint, folder = sys.argv[1:]
    net = DnCNN()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    net.to(memory_format=torch.channels_last).eval()
    images = load_images(Path(folder))
    print(f"{len(images)} images, PSNR in dB")
    print("sigma   float  8 bit")
    for sigma in SIGMAS:
        figures = [mean_psnr(net, images, sigma, clipped=clipped) for clipped in (False, True)]
        print(f"{sigma:5} {figures[0]:7.2f} {figures[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
