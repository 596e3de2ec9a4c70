"""BlurHash against an independent encoder, in pure Python."""

import blurhash as reference
import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.responsive import blurhash
from tests.support.pictures import picture


def _gradient(height: int, width: int, colour: tuple[float, float, float]) -> NDArray[np.uint8]:
    slope = np.add.outer(np.linspace(0, 127, height), np.linspace(0, 127, width))
    return (slope[:, :, None] * colour).astype(np.uint8)


@pytest.mark.parametrize("side", [1, 2, 20, 32])
@pytest.mark.parametrize("components", [(1, 1), (4, 3), (3, 4), (9, 9)])
def test_hashes_are_those_of_the_reference(side: int, components: tuple[int, int]) -> None:
    height = max(1, side * 2 // 3)
    plain = np.full((height, side, 3), (250, 128, 3), np.uint8)
    for pixels in (picture(height, side), _gradient(height, side, (1, 0.5, 0)), plain, plain * 0, plain * 0 + 255):
        expected = reference.encode(pixels.tolist(), *components)
        assert blurhash.encode(side, height, pixels.tobytes(), *components) == expected


@pytest.mark.parametrize("components", [(0, 3), (10, 3), (4, 0), (4, 10)])
def test_a_number_of_components_that_does_not_fit_is_refused(components: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 to 9 along each side"):
        blurhash.encode(2, 2, bytes(12), *components)
