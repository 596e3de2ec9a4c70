"""Output contracts are kept, or refused with what could be reached."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import TargetUnreachable
from app.imaging.pipeline import render
from app.imaging.recipe import Limits, Monitor, Stage, Target
from app.imaging.ssim import ssim
from tests.imaging.conftest import Pixels, as_image, photograph, pixels, similarity

LIMITS = Limits(pixels=10_000_000, side=10_000)
LOSSY = ("convert_jpeg", "convert_webp", "convert_avif")


def written(picture: Pixels, folder: Path, op: str, **params: Any) -> tuple[Path, dict[str, Any]]:
    source, target, monitor = folder / "source.png", folder / "target", Monitor()
    as_image(picture).pngsave(str(source))
    render(source, [Stage(op, params)], [Target(target, op, params)], LIMITS, monitor)
    assert sorted(path.name for path in folder.iterdir()) == ["source.png", "target"], "no trial is left behind"
    return target, monitor.reports.get(0, {})


@pytest.mark.parametrize("op", LOSSY)
def test_the_best_quality_within_the_bytes(tmp_path: Path, photo: Pixels, op: str) -> None:
    usual, _ = written(photo, tmp_path, op, quality=80)
    limit = int(usual.stat().st_size * 0.6)
    target, report = written(photo, tmp_path, op, quality=80, max_bytes=limit)
    assert report["bytes"] == target.stat().st_size <= limit
    assert report["encodes"] <= 8
    better, _ = written(photo, tmp_path, op, quality=report["quality"] + 1)
    assert better.stat().st_size > limit


@pytest.mark.parametrize("op", LOSSY)
def test_what_fits_at_once_is_encoded_once_at_the_quality_asked_for(tmp_path: Path, photo: Pixels, op: str) -> None:
    _, report = written(photo, tmp_path, op, quality=50, max_bytes=1_000_000)
    assert (report["quality"], report["encodes"]) == (50, 1)


@pytest.mark.slow
@pytest.mark.parametrize("op", LOSSY)
def test_the_smallest_file_that_is_alike_enough(tmp_path: Path, photo: Pixels, op: str) -> None:
    target, report = written(photo, tmp_path, op, quality=1, min_ssim=0.9)
    assert report["ssim"] >= 0.9
    assert ssim(as_image(photo), as_image(pixels(target))) == pytest.approx(report["ssim"], abs=0.01)
    _, better = written(photo, tmp_path, op, min_ssim=0.97)
    assert better["bytes"] > report["bytes"]
    assert better["quality"] > report["quality"]


def test_both(tmp_path: Path, photo: Pixels) -> None:
    _, report = written(photo, tmp_path, "convert_jpeg", min_ssim=0.9, max_bytes=100_000)
    assert report["ssim"] >= 0.9
    with pytest.raises(TargetUnreachable, match="with that SSIM") as refused:
        written(photo, tmp_path, "convert_jpeg", min_ssim=0.9, max_bytes=report["bytes"] - 1)
    assert (refused.value.limit, refused.value.value) == (report["bytes"] - 1, report["bytes"])


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("convert_jpeg", {"max_bytes": 100}),
        ("convert_png", {"max_bytes": 1000}),
        ("convert_webp", {"lossless": True, "max_bytes": 1000}),
    ],
)
def test_what_cannot_be_reached_is_told_with_figures(
    tmp_path: Path, photo: Pixels, op: str, params: dict[str, Any]
) -> None:
    with pytest.raises(TargetUnreachable) as refused:
        written(photo, tmp_path, op, **params)
    assert refused.value.limit == params["max_bytes"] < refused.value.value
    assert not refused.value.retryable


def test_an_ssim_that_no_jpeg_has(tmp_path: Path, photo: Pixels) -> None:
    with pytest.raises(TargetUnreachable, match="No quality reaches"):
        written(photo, tmp_path, "convert_jpeg", min_ssim=1)


def test_a_lossless_file_has_the_highest_ssim(tmp_path: Path, photo: Pixels) -> None:
    _, report = written(photo, tmp_path, "convert_png", min_ssim=1)
    assert report["ssim"] == 1
    assert "quality" not in report


@pytest.mark.parametrize("sigma", [2, 10, 40])
def test_the_index_is_near_to_one_with_other_windows(sigma: int) -> None:
    clean = photograph(300, 200)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    grey = [as_image(picture).colourspace("b-w").numpy() for picture in (clean, noisy)]
    assert ssim(as_image(clean), as_image(noisy)) == pytest.approx(similarity(*grey), abs=0.03)


def test_the_background_of_jpeg_counts_as_the_original(tmp_path: Path, photo: Pixels) -> None:
    alpha = np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8), (photo.shape[0], 1))
    for background in ("#000000", "#ffffff"):
        picture = np.dstack([photo, alpha])
        _, report = written(picture, tmp_path, "convert_jpeg", background=background, min_ssim=0.9)
        assert report["ssim"] >= 0.9
