"""The noise of an image is found without any network, and how it depends on the light."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.ml.noise_level import noise_level

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ROOT / "docs" / "sample.jpg") as image:
        return np.asarray(image.resize((640, 480), Image.Resampling.LANCZOS)).astype(float)


def noisy(picture: np.ndarray, sigma: np.ndarray | float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(picture.shape) * sigma
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [5, 10, 15, 25, 50])
def test_even_noise_is_found(photo: np.ndarray, sigma: int) -> None:
    level = noise_level(noisy(photo, sigma))
    assert level.sigma == pytest.approx(sigma, rel=0.1, abs=0.7)
    assert not level.varies


def test_a_clean_photograph_has_next_to_none(photo: np.ndarray) -> None:
    assert noise_level(photo.astype(np.uint8)).sigma < 2


def test_noise_that_grows_with_the_light_is_found_as_such(photo: np.ndarray) -> None:
    light = photo / 255
    level = noise_level(noisy(photo, np.sqrt(0.02 * light + 0.001) * 255))
    assert level.slope == pytest.approx([0.02] * 3, rel=0.25)
    assert level.base == pytest.approx([0.001] * 3, abs=0.002)
    assert level.varies


def test_each_colour_has_its_own(photo: np.ndarray) -> None:
    level = noise_level(noisy(photo, np.array([30, 10, 20])))
    assert np.sqrt(level.slope / 2 + level.base) * 255 == pytest.approx([30, 10, 20], rel=0.12)
    assert level.varies


def test_16_bits_and_grey_and_alpha(photo: np.ndarray) -> None:
    eight = noisy(photo, 20)
    deep = eight.astype(np.uint16) * 257
    assert noise_level(deep).sigma == pytest.approx(noise_level(eight).sigma, rel=1e-3)
    with_alpha = np.dstack([eight, np.full(eight.shape[:2], 7, np.uint8)])
    assert noise_level(with_alpha).sigma == noise_level(eight).sigma
    grey = noise_level(eight[:, :, :1])
    assert grey.sigma == pytest.approx(20, rel=0.1)
    assert (grey.slope == grey.slope[0]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (7, 9), (8, 8), (63, 65), (130, 70), (129, 5)])
@pytest.mark.parametrize("value", [0, 100, 255])
def test_small_and_flat_images_have_a_level(size: tuple[int, int], value: int) -> None:
    level = noise_level(np.full((*size, 3), value, np.uint8))
    assert np.isfinite([*level.slope, *level.base, level.sigma]).all()
    assert level.sigma < 0.5


def test_a_large_image_is_looked_at_in_places(photo: np.ndarray) -> None:
    large = np.tile(photo.astype(np.uint8), (6, 6, 1))
    began = time.process_time()
    noise_level(large)
    assert time.process_time() - began < 1, "seconds of 11 megapixels"


def test_scaled_is_of_noise_so_much_stronger(photo: np.ndarray) -> None:
    level = noise_level(noisy(photo, 20)).scaled(0.5)
    assert level.sigma == pytest.approx(10, rel=0.1)
    assert np.sqrt(level.slope / 2 + level.base) * 255 == pytest.approx([10] * 3, rel=0.1)
