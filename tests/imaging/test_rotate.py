"""Rotate."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.imaging.rotate import run
from app.parameters import RotateParams
from tests.imaging.conftest import Pixels, as_image


@given(turns=st.integers(-4, 4), height=st.integers(1, 40), width=st.integers(1, 40))
def test_quarter_turns_lose_nothing(turns: int, height: int, width: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    result = run(as_image(picture), RotateParams(angle=90 * turns)).numpy()
    assert (result == np.rot90(picture, -turns)).all()


@pytest.mark.parametrize("angle", [-5e-81, 1e-9, 359.9999999999])
def test_what_is_next_to_nothing_turns_nothing(photo: Pixels, angle: float) -> None:
    assert (run(as_image(photo), RotateParams(angle=angle)).numpy() == photo).all()


def test_other_angles_grow_the_canvas(photo: Pixels) -> None:
    result = run(as_image(photo), RotateParams(angle=30, background="#ff0000")).numpy()
    height, width, _ = photo.shape
    assert abs(result.shape[1] - (width * np.cos(np.pi / 6) + height * np.sin(np.pi / 6))) <= 2
    assert (result[0, 0] == (255, 0, 0)).all()
    assert (result[-1, -1] == (255, 0, 0)).all()


def test_turned_there_and_back_is_the_same_in_the_middle(photo: Pixels) -> None:
    there = run(as_image(photo), RotateParams(angle=20))
    back = run(there, RotateParams(angle=-20)).numpy()
    height, width, _ = photo.shape
    top, left = (back.shape[0] - height) // 2, (back.shape[1] - width) // 2
    middle = (slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3))
    difference = back[top : top + height, left : left + width][middle].astype(int) - photo[middle]
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("background", ["#00ff0080", "#12345600"])
def test_a_background_may_be_transparent(photo: Pixels, background: str) -> None:
    result = run(as_image(photo), RotateParams(angle=45, background=background)).numpy()
    assert result.shape[2] == 4
    assert result[0, 0, 3] == int(background[7:], 16)
    assert result[result.shape[0] // 2, result.shape[1] // 2, 3] == 255


def test_grey_takes_a_coloured_background(photo: Pixels) -> None:
    grey = as_image(photo).colourspace("b-w")
    assert run(grey, RotateParams(angle=45, background="#808080")).bands == 1
    assert run(grey, RotateParams(angle=45, background="#0000ff")).numpy()[0, 0].tolist() == [0, 0, 255]


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "rotate.png"
    run(as_image(photo), RotateParams(angle=30)).pngsave(str(result), keep="none")
    assert matches_golden(result)
