"""A channel of a small image, and its sum."""

import numpy as np
from numpy.typing import NDArray

Channel = NDArray[np.float64]


def total(values: Channel) -> float:
    """The sum, added in the order of the pixels: another order may round to another value, and to another hash."""
    return float(np.add.accumulate(values.ravel())[-1])
