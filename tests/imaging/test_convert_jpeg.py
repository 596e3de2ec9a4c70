"""JPEG."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.imaging.convert_jpeg import save
from app.parameters import JpegParams
from tests.imaging.conftest import Pixels, as_image, pixels, similarity, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), JpegParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = _save(photo, tmp_path / "convert_jpeg.jpg")
    assert matches_golden(result)
    assert similarity(pixels(result), photo) > 0.85


def test_quality_changes_the_size(tmp_path: Path, photo: Pixels) -> None:
    sizes = [_save(photo, tmp_path / "a", quality=quality).stat().st_size for quality in (20, 50, 90)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("progressive", [True, False])
def test_progressive(tmp_path: Path, photo: Pixels, progressive: bool) -> None:
    with Image.open(_save(photo, tmp_path / "a", progressive=progressive)) as image:
        assert ("progressive" in image.info) == progressive


def test_the_background_shows_where_the_image_is_transparent(tmp_path: Path, photo: Pixels) -> None:
    result = pixels(_save(np.asarray(with_alpha(photo)), tmp_path / "a", background="#0080ff", quality=95)).astype(int)
    assert abs(result[:, -1] - (0, 0x80, 0xFF)).max() < 12
    assert abs(result[:, 0] - photo[:, 0]).mean() < 6


@pytest.mark.parametrize(("background", "mode"), [("#808080", "L"), ("#0080ff", "RGB")])
def test_the_background_shows_through_grey(tmp_path: Path, photo: Pixels, background: str, mode: str) -> None:
    """Grey stays grey unless the background has a colour."""
    grey = np.asarray(with_alpha(photo).convert("LA"))
    with Image.open(_save(grey, tmp_path / "a", background=background, quality=95)) as image:
        assert image.mode == mode
        corner = np.asarray(image.convert("RGB")).astype(int)[:, -1]
    assert abs(corner - list(bytes.fromhex(background[1:]))).max() < 12


@pytest.mark.parametrize(
    ("params", "sampling"),
    [({}, 2), ({"quality": 90}, 1), ({"quality": 90, "chroma": "4:2:0"}, 2), ({"chroma": "4:4:4"}, 1)],
)
def test_chroma(tmp_path: Path, photo: Pixels, params: dict[str, object], sampling: int) -> None:
    with Image.open(_save(photo, tmp_path / "a", **params)) as image:
        assert image.layer[0][1] == sampling  # type: ignore[attr-defined]  # JPEG's own
