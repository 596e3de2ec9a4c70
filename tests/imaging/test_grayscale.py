"""Grayscale."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from app.imaging.colours.colour import PROFILE
from app.imaging.grayscale import run
from app.imaging.pipeline import Stage, Target, render
from app.imaging.recipe import Limits
from app.parameters import GrayscaleParams
from tests.imaging.conftest import Pixels, as_image

LIMITS = Limits(pixels=50_000_000, side=16384)
CHANNEL = st.integers(0, 255)


def _luminance(colour: tuple[int, int, int]) -> float:
    """By IEC 61966-2-1, from 0 to 255."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    return float(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


@given(st.tuples(CHANNEL, CHANNEL, CHANNEL))
def test_a_pixel_is_as_bright_as_it_was(colour: tuple[int, int, int]) -> None:
    result = run(as_image(np.full((2, 3, 3), colour, np.uint8)), GrayscaleParams())
    assert (result.bands, result.interpretation) == (1, "b-w")
    assert result(0, 0)[0] == pytest.approx(_luminance(colour), abs=1)


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_grey_and_alpha_stay(bands: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, bands), np.uint8)
    result = run(as_image(picture), GrayscaleParams()).numpy().reshape(20, 20, -1)
    assert (result[..., -1] == picture[..., -1]).all()
    assert result.shape[2] == min(bands, 2)


def test_sixteen_bits_stay() -> None:
    picture = pyvips.Image.black(4, 4, bands=3) + 1000
    result = run(picture.cast("ushort").copy(interpretation="rgb16"), GrayscaleParams())
    assert (result.format, result.interpretation) == ("ushort", "grey16")
    assert result(0, 0)[0] == pytest.approx(1000, abs=20)


@pytest.mark.parametrize("keep", ["none", "icc", "all"])
def test_no_profile_of_colours_is_left_on_grey(tmp_path: Path, photo: Pixels, keep: str) -> None:
    image = as_image(photo).copy()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.set_type(pyvips.GValue.blob_type, PROFILE, srgb)
    image.pngsave(str(tmp_path / "source"), keep="icc")
    target = Target(tmp_path / "result", "convert_png", {"keep_metadata": keep})
    render(tmp_path / "source", [Stage("grayscale", {})], [target], LIMITS)
    written = pyvips.Image.new_from_file(str(target.path))
    assert (written.bands, written.get_typeof(PROFILE)) == (1, 0)


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "grayscale.png"
    run(as_image(photo), GrayscaleParams()).pngsave(str(result), keep="none")
    assert matches_golden(result)
