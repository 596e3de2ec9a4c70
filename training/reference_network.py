"""The noise that PyTorch predicts in an image with a network of `training/networks.py`, for parity tests.

    python -m training.reference_network NAME CHECKPOINT NOISY.npy LEVEL.npy NOISE.npy

CHECKPOINT may come from `training/quantized.py`; its value ranges distinguish it.

NOISY holds (height, width, 3) float32 in 0..1, with sides that are multiples of the network's `align`; LEVEL holds the
slopes and the bases of the noise level, (2, 3). The predicted noise is written to NOISE in the shape of NOISY.
"""

import sys

import numpy as np
import torch

from app.ml.unet import INPUT
from training.networks import CANDIDATES, Network
from training.noise import NoiseLevel, noise_map
from training.quantized import on_bytes


def main() -> None:
    name, checkpoint, source, level, target = sys.argv[1:]
    net = Network(CANDIDATES[name])
    state = torch.load(checkpoint, weights_only=True)
    if any(key.endswith(INPUT) for key in state):
        on_bytes(net)
    net.load_state_dict(state)
    planes = torch.from_numpy(np.load(source).transpose(2, 0, 1)[None].copy())
    slope, base = np.load(level)
    with torch.inference_mode():
        noise = net(planes, noise_map(planes, NoiseLevel(slope=slope, base=base)))[0]
    np.save(target, noise.numpy().transpose(1, 2, 0))


if __name__ == "__main__":
    main()
