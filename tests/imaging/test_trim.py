"""Trim."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from app.imaging import trim
from app.imaging.recipe import Context, Monitor
from app.parameters import TrimParams
from tests.imaging.conftest import Pixels, as_image

borders = st.integers(0, 20)
WHITE = (255, 255, 255)


def _trimmed(image: pyvips.Image, params: TrimParams) -> pyvips.Image:
    return trim.run(image, params, Context(Monitor(), 0))


def framed(
    inside: Pixels, border: tuple[int, ...], left: int = 7, top: int = 9, right: int = 5, low: int = 3
) -> Pixels:
    height, width, _ = inside.shape
    picture = np.full((top + height + low, left + width + right, len(border)), border, np.uint8)
    picture[top : top + height, left : left + width, :3] = inside
    picture[top : top + height, left : left + width, 3:] = 255
    return picture


@given(left=borders, top=borders, right=borders, low=borders)
def test_a_border_of_any_width_goes(left: int, top: int, right: int, low: int) -> None:
    inside = np.full((30, 40, 3), 20, np.uint8)
    if left == top == 0:
        return  # the top left pixel is not border then
    result = _trimmed(as_image(framed(inside, WHITE, left, top, right, low)), TrimParams()).numpy()
    assert result.shape == inside.shape
    assert (result == inside).all()


@pytest.mark.parametrize("border", [WHITE, (0, 0, 0), (10, 200, 30)])
def test_the_colour_is_that_of_the_corner(photo: Pixels, border: tuple[int, int, int]) -> None:
    result = _trimmed(as_image(framed(photo[40:100, 40:100] // 2 + 60, border)), TrimParams(threshold=5))
    assert (result.width, result.height) == (60, 60)


def test_a_chosen_colour_spares_other_borders() -> None:
    inside = np.full((30, 40, 3), 20, np.uint8)
    image = as_image(framed(inside, WHITE))
    assert _trimmed(image, TrimParams(background="#ff0000")).width == image.width
    assert _trimmed(image, TrimParams(background="#ffffff")).width == 40


def test_transparent_borders_go_whatever_their_hidden_colour_is() -> None:
    picture = framed(np.full((30, 40, 3), 20, np.uint8), (0, 0, 0, 0))
    picture[:5, :5, :3] = 200  # hidden
    assert _trimmed(as_image(picture), TrimParams()).numpy().shape == (30, 40, 4)


def test_what_is_all_border_stays_as_it_is() -> None:
    result = _trimmed(as_image(np.full((20, 30, 3), 9, np.uint8)), TrimParams())
    assert (result.width, result.height) == (30, 20)


def test_what_was_kept_is_reported() -> None:
    monitor = Monitor()
    trim.run(as_image(framed(np.full((30, 40, 3), 20, np.uint8), WHITE)), TrimParams(), Context(monitor, 2))
    assert monitor.reports == {2: {"left": 7, "top": 9, "width": 40, "height": 30}}


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "trim.png"
    _trimmed(as_image(framed(photo, WHITE)), TrimParams()).pngsave(str(result), keep="none")
    assert matches_golden(result)
