"""Flip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.imaging.flip import run
from app.parameters import FlipParams
from tests.imaging.conftest import Pixels, as_image


@pytest.mark.parametrize(("direction", "axes"), [("horizontal", 1), ("vertical", 0), ("both", (0, 1))])
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_every_pixel_is_mirrored(direction: str, axes: int | tuple[int, int], height: int, width: int) -> None:
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    assert (run(as_image(picture), FlipParams(direction=direction)).numpy() == np.flip(picture, axes)).all()


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "flip.png"
    run(as_image(photo), FlipParams(direction="both")).pngsave(str(result), keep="none")
    assert matches_golden(result)
