"""Quantization: 8-bit integers instead of float32 for the convolutions that take most of the time.

The inputs of such a convolution are unsigned bytes, scaled by ranges that were found in training. Its weights are
signed bytes with one scale per output channel. A checkpoint contains the tensors of the float network and the ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidWeights
from app.ml.unet import INPUT, OUTPUT
from app.ml.weights import Tensor

STEPS = 255  # largest unsigned byte
MOST = 127  # largest signed byte; -128 is not used


@dataclass(frozen=True, kw_only=True)
class Affine:
    """The scale of a quantized tensor: a byte `q` represents `(q - zero) * scale`, so 0 is exact."""

    scale: float
    zero: int


def affine(low: float, high: float) -> Affine:
    """The scale for values between `low` and `high`; values outside are clipped."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / STEPS)
    return Affine(scale=float(scale), zero=int(np.rint(-low / scale)))


def ranges(state: Mapping[str, Tensor]) -> dict[str, Affine]:
    """The scales of a quantized network, by the name of the tensor with their range; empty for a float network.

    Raises:
        InvalidWeights: a range is not valid.
    """
    found = {}
    for name, tensor in state.items():
        if name.rpartition(".")[2] in {INPUT, OUTPUT}:
            low, high = np.frombuffer(tensor.data, np.float32).tolist()
            if not (np.isfinite([low, high]).all() and low < high and low <= 0 <= high):
                raise InvalidWeights(f"{name!r} is no range: {low} to {high}.")
            found[name] = affine(low, high)
    return found


def signed(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize weights of shape (outputs, ...); returns them as bytes, and the scale of each output channel."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)))
    scales = np.maximum(largest, np.finfo(np.float32).tiny * MOST).astype(np.float32) / np.float32(MOST)
    steps = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return np.clip(steps, -MOST, MOST).astype(np.int8), scales
