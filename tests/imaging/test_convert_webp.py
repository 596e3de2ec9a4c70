"""WebP."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips

from app.errors import ImageTooLarge
from app.imaging.convert_webp import save
from app.parameters import WebpParams
from tests.imaging.conftest import Pixels, as_image, pixels, similarity, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), WebpParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = _save(photo, tmp_path / "convert_webp.webp")
    assert matches_golden(result)
    assert similarity(pixels(result), photo) > 0.9


def test_quality_and_effort_change_the_size(tmp_path: Path, photo: Pixels) -> None:
    sizes = [
        _save(photo, tmp_path / "a", **params).stat().st_size
        for params in ({"quality": 30}, {"quality": 80}, {"quality": 80, "effort": 0})
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_lossless(tmp_path: Path, photo: Pixels) -> None:
    assert (pixels(_save(photo, tmp_path / "a", lossless=True)) == photo).all()


def test_alpha_is_kept(tmp_path: Path, photo: Pixels) -> None:
    picture = np.asarray(with_alpha(photo))
    result = pixels(_save(picture, tmp_path / "a"))
    assert similarity(result[..., 3], picture[..., 3]) > 0.99


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        save(pyvips.Image.black(16384, 1), WebpParams(), tmp_path / "a")
    assert (caught.value.limit, caught.value.value) == (16383, 16384)
    save(pyvips.Image.black(16383, 1), WebpParams(), tmp_path / "a")
