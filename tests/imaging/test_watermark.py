"""Watermark: where it lies, how large it is, what it leaves alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from app.errors import CorruptImage, ImageTooLarge, InvisibleText
from app.imaging import watermark
from app.imaging.recipe import Context, Monitor
from app.parameters import WatermarkParams
from tests.imaging.conftest import Pixels, as_image, encoded
from tests.support.sampling import sampled

GROUND = 90


def _ground(width: int = 200, height: int = 120, bands: int = 3) -> Pixels:
    return np.full((height, width, bands), GROUND, np.uint8)


def _marked(pixels: Pixels, files: dict[str, Path] | None = None, **params: Any) -> Pixels:
    image = watermark.run(as_image(pixels), WatermarkParams(**params), Context(Monitor(), 0, files or {}))
    return image.numpy().reshape(image.height, image.width, image.bands)


def _changed(before: Pixels, after: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and lower end of what is different."""
    rows, columns = np.nonzero((before.astype(int) != after).any(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.fixture
def logo(tmp_path: Path) -> dict[str, Path]:
    """40x20 pixels of red, the lower half transparent."""
    pixels = np.zeros((20, 40, 4), np.uint8)
    pixels[:10] = (255, 0, 0, 255)
    (tmp_path / "logo").write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    return {"image": tmp_path / "logo"}


@pytest.mark.parametrize(
    ("gravity", "left", "top"),
    [("northwest", 6, 6), ("southeast", 144, 89), ("center", 75, 47), ("west", 6, 47), ("north", 75, 6)],
)
def test_an_image_lies_where_it_should(logo: dict[str, Path], gravity: str, left: int, top: int) -> None:
    after = _marked(_ground(), logo, image="logo.png", gravity=gravity, scale=0.25, margin=0.05, opacity=1)
    found = _changed(_ground(), after)
    assert found[2] - found[0] == 50  # a quarter of the width
    assert abs(found[0] - left) <= 1
    assert abs(found[1] - top) <= 1
    assert (after[found[1] + 3, found[0] + 9] == (255, 0, 0)).all()


def test_opacity_mixes(logo: dict[str, Path]) -> None:
    after = _marked(_ground(), logo, image="logo.png", gravity="northwest", margin=0, opacity=0.5)
    assert np.abs(after[5, 20].astype(int) - ((255 + GROUND) / 2, GROUND / 2, GROUND / 2)).max() <= 1
    assert (_marked(_ground(), logo, image="logo.png", opacity=0) == _ground()).all()


@settings(max_examples=sampled(80))
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    scale=st.floats(0.01, 1),
    margin=st.floats(0, 0.5),
    repeat=st.booleans(),
    bands=st.sampled_from([1, 2, 3, 4]),
)
def test_size_and_alpha_stay_whatever_is_asked_for(
    width: int, height: int, scale: float, margin: float, repeat: bool, bands: int
) -> None:
    before = _ground(width, height, bands)
    after = _marked(before, text="© Ann & <Bob>", scale=scale, margin=margin, repeat=repeat, opacity=1)
    assert after.shape == before.shape


def test_a_text_is_as_wide_as_asked_for_and_its_markup_is_text() -> None:
    for width in (200, 2000):
        before = _ground(width, width // 2)
        found = _changed(before, _marked(before, text="Hamburg", scale=0.5, opacity=1))
        assert abs((found[2] - found[0]) / width - 0.5) < 0.03
    plain = _changed(_ground(), _marked(_ground(), text="ab", scale=0.5, opacity=1))
    tagged = _changed(_ground(), _marked(_ground(), text="<b>ab</b>", scale=0.5, opacity=1))
    assert (tagged[3] - tagged[1]) < (plain[3] - plain[1]) * 0.7  # more letters in the same width


def test_a_text_without_fonts_on_the_machine(tmp_path: Path) -> None:
    """The font comes with PixTools; in a slim image there is no other."""
    code = (
        "import pyvips; from app.imaging.recipe import Context, Monitor; from app.imaging import watermark;"
        "from app.parameters import WatermarkParams;"
        "i = pyvips.Image.black(200, 100, bands=3).copy(interpretation='srgb');"
        "r = watermark.run(i, WatermarkParams(text='Wg', scale=1, opacity=1), Context(Monitor(), 0));"
        "print(round(r.avg(), 1))"
    )
    empty = tmp_path / "fonts.conf"
    empty.write_text("<fontconfig></fontconfig>")

    def average(**more: str) -> float:
        done = subprocess.run([sys.executable, "-c", code], env=more, capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert average(FONTCONFIG_FILE=str(empty)) == pytest.approx(average(), abs=1)  # up to hinting


def test_colour_of_the_text() -> None:
    after = _marked(_ground(), text="O", colour="#00ff00", scale=1, opacity=1)
    assert ((after == (0, 255, 0)).all(-1)).any()


@pytest.mark.parametrize("text", ["\u2800", "\ufffc"])
def test_a_text_without_ink_is_named(text: str) -> None:
    with pytest.raises(InvisibleText):
        _marked(_ground(), text=text)


def test_repeated_it_is_everywhere(logo: dict[str, Path]) -> None:
    after = _marked(_ground(), logo, image="logo.png", scale=0.1, margin=0.02, repeat=True)
    for part in np.split(after, 4, axis=1):
        for piece in np.split(part, 4):
            assert (piece != GROUND).any()


def test_grey_stays_grey_under_a_grey_mark_and_gets_colour_from_another(logo: dict[str, Path]) -> None:
    assert _marked(_ground(bands=1), text="x").shape[-1] == 1
    assert _marked(_ground(bands=1), logo, image="logo.png").shape[-1] == 3


def test_alpha_below_and_sixteen_bits(logo: dict[str, Path]) -> None:
    clear = np.zeros((120, 200, 4), np.uint8)
    after = _marked(clear, logo, image="logo.png", gravity="northwest", margin=0, opacity=1)
    assert (after[5, 20] == (255, 0, 0, 255)).all()
    assert (after[-1, -1] == 0).all()
    deep = as_image(_ground()).colourspace("rgb16")
    params = WatermarkParams(image="logo.png", gravity="northwest", margin=0, opacity=1)
    marked = watermark.run(deep, params, Context(Monitor(), 0, logo)).numpy()
    assert marked.dtype == np.uint16
    assert (marked[5, 20] == (65535, 0, 0)).all()
    assert (marked[-1, -1] == deep.numpy()[-1, -1]).all()


def test_a_mark_that_is_no_image_or_a_bomb(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no image")
    with pytest.raises(CorruptImage, match="watermark"):
        _marked(_ground(), {"image": tmp_path / "bad"}, image="bad")
    bomb = Image.new("1", (6000, 6000))
    (tmp_path / "bomb").write_bytes(encoded(bomb, "PNG"))
    with pytest.raises(ImageTooLarge, match="36000000"):
        _marked(_ground(), {"image": tmp_path / "bomb"}, image="bomb")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"image": "a.png", "text": "b"},
        {"image": "../secret"},
        {"image": "a/b"},
        {"image": ".hidden"},
        {"text": "two\nlines"},
        {"text": "   "},
        {"text": "x" * 201},
        {"text": "a", "scale": 0},
        {"text": "a", "gravity": "attention"},
    ],
)
def test_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatermarkParams(**params)


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "watermark.png"
    params = WatermarkParams(text="PixTools", scale=0.6)
    watermark.run(as_image(photo), params, Context(Monitor(), 0)).pngsave(str(result), keep="none")
    assert matches_golden(result)
