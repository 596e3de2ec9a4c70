"""Sharpen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imaging.blur import run as blur
from app.imaging.sharpen import run
from app.parameters import BlurParams, SharpenParams
from tests.imaging.conftest import Pixels, as_image


@settings(max_examples=30)
@given(sigma=st.floats(0.3, 5), edges=st.floats(0, 20), height=st.integers(1, 60), width=st.integers(1, 60))
def test_a_flat_image_stays(sigma: float, edges: float, height: int, width: int) -> None:
    picture = np.full((height, width, 3), (90, 120, 150), np.uint8)
    result = run(as_image(picture), SharpenParams(sigma=sigma, edges=edges)).numpy().astype(int)
    assert np.abs(result - picture).max() <= 1


def test_edges_get_steeper() -> None:
    step = np.full((20, 40, 3), 80, np.uint8)
    step[:, 20:] = 170
    soft = blur(as_image(step), BlurParams(sigma=2))
    sharp = run(soft, SharpenParams(sigma=2, edges=3)).numpy()
    steepness = [np.abs(np.diff(picture.astype(int), axis=1)).max() for picture in (soft.numpy(), sharp)]
    assert steepness[1] > steepness[0]


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_channels_and_alpha_stay(bands: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, bands), np.uint8)
    result = run(as_image(picture), SharpenParams()).numpy().reshape(picture.shape)
    if bands in {2, 4}:
        assert (result[..., -1] == picture[..., -1]).all()


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "sharpen.png"
    run(as_image(photo), SharpenParams(sigma=1)).pngsave(str(result), keep="none")
    assert matches_golden(result)
