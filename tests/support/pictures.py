"""Pictures of seeded noise, for tests of networks on tiles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Random integers over the whole range of their type, (height, width, channels)."""
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, channels), dtype, endpoint=True)
