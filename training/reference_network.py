"""What PyTorch makes of a picture with a network of `training/networks.py`, for parity tests.

    python -m training.reference_network NAME CHECKPOINT NOISY.npy LEVEL.npy NOISE.npy

A checkpoint with ranges is one of `training/quantized.py`.

NOISY holds (height, width, 3) float32 in 0..1, sides multiples of the network's `align`; LEVEL holds the slopes and the
bases of the noise level, (2, 3); NOISE gets the predicted noise, shaped as NOISY.
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
