"""GIF."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.imaging.convert_gif import save
from app.parameters import GifParams
from tests.imaging.conftest import Pixels, as_image, pixels, similarity, with_alpha


def _save(picture: Pixels, path: Path, **params: object) -> Path:
    save(as_image(picture), GifParams(**params), path)
    return path


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = _save(photo, tmp_path / "convert_gif.gif")
    assert matches_golden(result)
    assert similarity(pixels(result, "RGB"), photo) > 0.7


@pytest.mark.parametrize("colours", [2, 16, 256])
def test_the_palette_is_no_larger(tmp_path: Path, photo: Pixels, colours: int) -> None:
    shown = pixels(_save(photo, tmp_path / "a", colours=colours), "RGB").reshape(-1, 3)
    assert len(np.unique(shown, axis=0)) <= colours


def test_without_dither_flat_areas_stay_flat(tmp_path: Path, photo: Pixels) -> None:
    sizes = [_save(photo, tmp_path / "a", colours=16, dither=dither).stat().st_size for dither in (0, 1)]
    assert sizes[0] < sizes[1]


def test_transparent_pixels_stay_so(tmp_path: Path, photo: Pixels) -> None:
    picture = np.array(with_alpha(photo))
    picture[..., 3] = 255
    picture[:20, :20, 3] = 0
    alpha = pixels(_save(picture, tmp_path / "a"), "RGBA")[..., 3]
    assert (alpha[:20, :20] == 0).all()
    assert (alpha[30:, 30:] == 255).all()


def test_grey(tmp_path: Path, photo: Pixels) -> None:
    with Image.open(_save(photo[..., 0], tmp_path / "a")) as image:
        shown = np.asarray(image.convert("RGB"))
    assert (shown[..., 0] == shown[..., 1]).all()
