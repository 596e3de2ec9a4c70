"""Numbers of 8 bit in place of float32, for the convolutions that take most of the time.

The inputs of such a convolution are unsigned bytes with a scale that was found in training; its weights are signed
bytes with one scale for each output. A checkpoint has the tensors of the float network, plus the ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidWeights
from app.ml.unet import INPUT, OUTPUT
from app.ml.weights import Tensor

STEPS = 255  # of an unsigned byte
MOST = 127  # of a signed byte, on both sides of zero


@dataclass(frozen=True, kw_only=True)
class Affine:
    """A byte `q` stands for `(q - zero) * scale`; 0 has a byte of its own."""

    scale: float
    zero: int


def affine(low: float, high: float) -> Affine:
    """The scale for values between two numbers; values outside become the nearest of them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / STEPS)
    return Affine(scale=float(scale), zero=int(np.rint(-low / scale)))


def ranges(state: Mapping[str, Tensor]) -> dict[str, Affine]:
    """By name of the tensor that holds the range.

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
    """Weights (outputs, ...) as bytes, and the scale of each output."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)))
    scales = np.maximum(largest, np.finfo(np.float32).tiny * MOST).astype(np.float32) / np.float32(MOST)
    steps = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return np.clip(steps, -MOST, MOST).astype(np.int8), scales
