"""TIFF."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips

from app.imaging.convert_tiff import save
from app.parameters import TiffParams
from tests.imaging.conftest import Pixels, as_image, pixels, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), TiffParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    assert matches_golden(_save(photo, tmp_path / "convert_tiff.tif"))


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_pixels_are_kept(tmp_path: Path, photo: Pixels, mode: str, compression: str) -> None:
    picture = np.asarray(with_alpha(photo).convert(mode))
    assert (pixels(_save(picture, tmp_path / "a", compression=compression)) == picture).all()


def test_16_bits_are_kept(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (30, 40, 3), np.uint16)
    image = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    save(image, TiffParams(), tmp_path / "a.tif")
    assert (pyvips.Image.tiffload(str(tmp_path / "a.tif")).numpy() == deep).all()


def test_compression_makes_it_smaller(tmp_path: Path, photo: Pixels) -> None:
    sizes = [_save(photo, tmp_path / "a", compression=name).stat().st_size for name in ("deflate", "lzw", "none")]
    assert sizes == sorted(set(sizes))
