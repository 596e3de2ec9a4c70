"""Crop."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AreaOutsideImage
from app.imaging.crop import run
from app.parameters import CropParams
from tests.imaging.conftest import Pixels, as_image

HEIGHT, WIDTH = 40, 60
sides = st.integers(1, 80)


def picture() -> Pixels:
    """Every pixel shows its column and its row."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def kept(**params: object) -> tuple[int, int, int, int]:
    result = run(as_image(picture()), CropParams(**params)).numpy()
    left, top, _ = (int(value) for value in result[0, 0])
    assert (result == picture()[top : top + len(result), left : left + len(result[0])]).all()
    return left, top, result.shape[1], result.shape[0]


@pytest.mark.parametrize(
    ("gravity", "expected"),
    [
        ("center", (20, 15)),
        ("north", (20, 0)),
        ("northeast", (40, 0)),
        ("east", (40, 15)),
        ("southeast", (40, 30)),
        ("south", (20, 30)),
        ("southwest", (0, 30)),
        ("west", (0, 15)),
        ("northwest", (0, 0)),
    ],
)
def test_gravity(gravity: str, expected: tuple[int, int]) -> None:
    assert kept(width=20, height=10, gravity=gravity) == (*expected, 20, 10)


@pytest.mark.parametrize(
    ("point", "expected"), [([0.5, 0.5], (20, 15)), ([0.25, 0.75], (5, 25)), ([0, 1], (0, 30)), ([1, 0], (40, 0))]
)
def test_the_focal_point_comes_to_the_middle_as_far_as_there_are_pixels(
    point: list[float], expected: tuple[int, int]
) -> None:
    assert kept(width=20, height=10, focal_point=point) == (*expected, 20, 10)


@given(left=sides, top=sides, width=sides, height=sides)
def test_a_placed_area_is_cut_out_or_refused(left: int, top: int, width: int, height: int) -> None:
    area = {"left": left, "top": top, "width": width, "height": height}
    if left + width <= WIDTH and top + height <= HEIGHT:
        assert kept(**area) == (left, top, width, height)
    else:
        with pytest.raises(AreaOutsideImage) as refused:
            kept(**area)
        assert refused.value.value > refused.value.limit


@given(width=sides, height=sides, gravity=st.sampled_from(["center", "north", "southeast", "attention"]))
def test_by_gravity_it_is_at_most_the_whole(width: int, height: int, gravity: str) -> None:
    assert kept(width=width, height=height, gravity=gravity)[2:] == (min(width, WIDTH), min(height, HEIGHT))


def test_attention_finds_what_catches_the_eye() -> None:
    dull = np.full((200, 300, 3), 120, np.uint8)
    dull[20:60, 230:280] = (240, 60, 30)
    result = run(as_image(dull), CropParams(width=80, height=80, gravity="attention")).numpy()
    assert (result == (240, 60, 30)).all(axis=2).sum() >= 0.9 * 40 * 50


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "crop.png"
    run(as_image(photo), CropParams(width=80, height=60, left=50, top=30)).pngsave(str(result), keep="none")
    assert matches_golden(result)
