"""PNG."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from app.imaging.convert_png import save
from app.parameters import PngPaletteSize, PngParams
from tests.imaging.conftest import Pixels, as_image, pixels, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), PngParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    assert matches_golden(_save(photo, tmp_path / "convert_png.png"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_pixels_are_kept(tmp_path: Path, photo: Pixels, mode: str) -> None:
    picture = np.asarray(with_alpha(photo).convert(mode))
    assert (pixels(_save(picture, tmp_path / "a")) == picture).all()


def test_rows_are_filtered(tmp_path: Path, photo: Pixels) -> None:
    filtered = _save(photo, tmp_path / "a").stat().st_size
    assert filtered < 0.8 * len(as_image(photo).pngsave_buffer(compression=6, filter="none", keep="none"))


def test_compression_changes_the_size(tmp_path: Path, photo: Pixels) -> None:
    sizes = [_save(photo, tmp_path / "a", compression=compression).stat().st_size for compression in (9, 1, 0)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("colours", get_args(PngPaletteSize))
def test_a_palette_has_no_more_colours_than_allowed(tmp_path: Path, photo: Pixels, colours: int) -> None:
    seen = pixels(_save(photo, tmp_path / "a", colours=colours), "RGB")
    assert 1 < len(np.unique(seen.reshape(-1, 3), axis=0)) <= colours
