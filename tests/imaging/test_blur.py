"""Blur."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imaging import blur
from app.imaging.blur import run
from app.parameters import BlurParams
from tests.imaging.conftest import Pixels, as_image


@pytest.mark.slow
@settings(max_examples=30)
@given(sigma=st.floats(0.3, 100), height=st.integers(1, 60), width=st.integers(1, 60))
def test_brightness_stays_and_contrast_falls(sigma: float, height: int, width: int) -> None:
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    result = run(as_image(picture), BlurParams(sigma=sigma)).numpy()
    assert result.shape == picture.shape
    assert (result.std((0, 1)) <= picture.std((0, 1)) + 1).all()
    assert result.min() >= picture.min()
    assert result.max() <= picture.max()


@pytest.mark.parametrize("sigma", [0.5, 1, 2.1422167507378123, 5, 30, 100])
def test_white_stays_white(sigma: float) -> None:
    white = np.full((20, 30, 3), 255, np.uint8)
    assert (run(as_image(white), BlurParams(sigma=sigma)).numpy() == white).all()


def test_it_is_gaussian() -> None:
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    result = run(as_image(point), BlurParams(sigma=2)).numpy()[20, :, 0]
    expected = 255 * np.exp(-((np.arange(41) - 20) ** 2) / 8) / (2 * np.pi * 4)
    assert np.abs(result - expected).max() <= 1.5


@pytest.mark.parametrize("sigma", [12, 13.3, 25, 40, 100])
@pytest.mark.parametrize("size", [(160, 120), (97, 301), (5, 200), (1, 1)])
def test_a_strong_blur_is_the_same_as_one_of_all_pixels(
    sigma: float, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    squares = (np.indices(size[::-1]) // 20).sum(0) % 2 * 255
    picture = as_image(np.dstack([squares, 255 - squares, squares // 2]).astype(np.uint8))
    small = run(picture, BlurParams(sigma=sigma)).numpy().astype(int)
    monkeypatch.setattr(blur, "ENOUGH", 1000)
    assert np.abs(small - run(picture, BlurParams(sigma=sigma)).numpy()).max() <= 1


def test_transparent_pixels_do_not_colour_their_neighbours() -> None:
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:, :20] = (200, 200, 200, 255)
    picture[:, 20:] = (255, 0, 0, 0)
    result = run(as_image(picture), BlurParams(sigma=3)).numpy()
    visible = result[result[..., 3] > 64].astype(int)
    assert np.abs(visible[:, :3] - 200).max() <= 4


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_channels_stay(bands: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, bands), np.uint8)
    assert run(as_image(picture), BlurParams(sigma=1)).bands == bands


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "blur.png"
    run(as_image(photo), BlurParams(sigma=3)).pngsave(str(result), keep="none")
    assert matches_golden(result)
