"""The noise that PyTorch predicts in an image, for parity tests.

    python -m training.reference CHECKPOINT NOISY.npy NOISE.npy

NOISY holds (height, width, 3) float32 in 0..1; the predicted noise is written to NOISE in the same shape.
"""

import sys

import numpy as np
import torch

from training.model import DnCNN


def main() -> None:
    checkpoint, source, target = sys.argv[1:]
    net = DnCNN()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    planes = torch.from_numpy(np.load(source).transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        noise = net.model(planes)[0]
    np.save(target, noise.numpy().transpose(1, 2, 0))


if __name__ == "__main__":
    main()
