"""AVIF."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.imaging.convert_avif import save
from app.parameters import AvifParams
from tests.imaging.conftest import Pixels, as_image, pixels, similarity, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), AvifParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = _save(photo, tmp_path / "convert_avif.avif")
    assert matches_golden(result)
    assert similarity(pixels(result), photo) > 0.85


def test_quality_changes_the_size(tmp_path: Path, photo: Pixels) -> None:
    sizes = [_save(photo, tmp_path / "a", quality=quality).stat().st_size for quality in (20, 50, 90)]
    assert sizes == sorted(set(sizes))


def test_effort_is_passed_on(tmp_path: Path, photo: Pixels) -> None:
    files = [_save(photo, tmp_path / "a", effort=effort).read_bytes() for effort in (0, 6)]
    assert files[0] != files[1]


def test_lossless(tmp_path: Path, photo: Pixels) -> None:
    result = pixels(_save(photo, tmp_path / "a", lossless=True)).astype(int)
    assert abs(result - photo).max() <= LOSSLESS_ERROR


def test_alpha_is_kept(tmp_path: Path, photo: Pixels) -> None:
    picture = np.asarray(with_alpha(photo))
    result = pixels(_save(picture, tmp_path / "a"))
    assert similarity(result[..., 3], picture[..., 3]) > 0.98


def test_grey(tmp_path: Path, photo: Pixels) -> None:
    result = _save(photo[..., 0], tmp_path / "a", quality=80)
    assert similarity(pixels(result, "L"), photo[..., 0]) > 0.9


LOSSLESS_ERROR = 0


def test_chroma_keeps_fine_colour(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    errors = [
        np.abs(pixels(_save(stripes, tmp_path / "a", quality=80, chroma=chroma)).astype(int) - stripes).mean()
        for chroma in ("4:4:4", "4:2:0")
    ]
    assert errors[0] < 0.5 * errors[1]
