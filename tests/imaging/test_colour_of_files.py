"""Files that name their colours in unusual ways, held against avifdec, tifffile and LittleCMS."""

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.errors import UnsupportedImage
from app.imaging.colours import cicp
from app.imaging.pipeline import Limits, Stage, Target, render
from app.imaging.recipe import Monitor
from tests.imaging.conftest import Pixels

LIMITS = Limits(pixels=1_000_000, side=4000)


def _rendered(source: Path, folder: Path, *stages: Stage, **params: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    monitor = Monitor()
    target = Target(folder / "result", "convert_png", params)
    render(source, [*stages, Stage("convert_png", params)], [target], LIMITS, monitor)
    seen = pyvips.Image.new_from_buffer(target.path.read_bytes(), "").numpy()
    return seen, monitor.reports.get(len(stages), {}).get("lost", {})


# AVIF


def _avif(picture: NDArray[Any], folder: Path, *options: str) -> Path:
    interpretation = "rgb16" if picture.dtype == np.uint16 else "srgb"
    pyvips.Image.new_from_array(picture).copy(interpretation=interpretation).pngsave(
        str(folder / "in.png"), keep="none"
    )
    quality = ["-s", "8", "--min", "0", "--max", "2", "-y", "444"]
    command = ["avifenc", *quality, *options, str(folder / "in.png"), str(folder / "source")]
    subprocess.run([*command[:-1], str(folder / "source.avif")], check=True, capture_output=True)
    return (folder / "source.avif").rename(folder / "source")


def _by_avifdec(path: Path) -> NDArray[Any]:
    """The numbers as they are stored."""
    named, decoded = path.with_suffix(".avif"), path.with_suffix(".png")
    named.write_bytes(path.read_bytes())
    subprocess.run(["avifdec", "-d", "16", str(named), str(decoded)], check=True, capture_output=True)
    stored: NDArray[Any] = pyvips.Image.new_from_buffer(decoded.read_bytes(), "").numpy()
    return stored[..., :3].astype(float) / 65535


def _srgb_light(signal: NDArray[Any]) -> NDArray[Any]:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _srgb_signal(light: NDArray[Any]) -> NDArray[Any]:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


#: linear light, both with the white D65: published in CSS Color 4
P3_TO_SRGB = np.array([[1.2249, -0.2249, 0], [-0.0420, 1.0420, 0], [-0.0197, -0.0786, 1.0979]])
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


@pytest.mark.parametrize(
    ("numbers", "matrix"),
    [("12/13/6", P3_TO_SRGB), ("9/13/9", BT2020_TO_SRGB), ("9/1/9", BT2020_TO_SRGB), ("1/13/6", np.eye(3))],
)
@pytest.mark.parametrize("depth", ["8", "10"])
def test_colours_told_by_numbers_are_converted(
    tmp_path: Path, photo: Pixels, numbers: str, matrix: NDArray[Any], depth: str
) -> None:
    source = _avif(photo, tmp_path, "--cicp", numbers, "-d", depth)
    expected = _srgb_signal(_srgb_light(_by_avifdec(source)) @ matrix.T) * 255
    seen, lost = _rendered(source, tmp_path)
    seen = seen / 257 if seen.dtype == np.uint16 else seen
    difference = abs(seen[..., :3].astype(float) - expected)
    assert np.median(difference) <= 1
    assert np.percentile(difference, 99) <= 4
    assert ("wide_gamut" in lost) == (numbers != "1/13/6")


def test_they_can_stay_with_a_profile(tmp_path: Path, photo: Pixels) -> None:
    source = _avif(photo, tmp_path, "--cicp", "12/13/6")
    seen, lost = _rendered(source, tmp_path, keep_metadata="icc")
    assert abs(seen.astype(float) / 255 - _by_avifdec(source)).max() < 0.02
    assert lost == {}
    with Image.open(tmp_path / "result") as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert ImageCms.getProfileDescription(profile).strip() == "Display P3"


def _pq(light: NDArray[Any]) -> NDArray[Any]:
    power = (light / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _hlg(light: NDArray[Any]) -> NDArray[Any]:
    scene = (light / 1000) ** (1 / 1.2)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


@pytest.mark.parametrize(("transfer", "signal"), [(16, _pq), (18, _hlg)])
def test_high_dynamic_range_is_shown_and_told(tmp_path: Path, transfer: int, signal: Any) -> None:
    """Grey: exact where it is dark, compressed above, and never beyond white."""
    light = np.array([2, 10, 40, 80, 203, 500, 1000])  # candelas on a square metre
    row = np.repeat(signal(light), 16)
    picture = np.repeat(np.tile(row, (16, 1))[..., None], 3, -1)
    source = _avif((picture * 65535).astype(np.uint16), tmp_path, "--cicp", f"9/{transfer}/9", "-d", "10")
    seen, lost = _rendered(source, tmp_path)
    found = seen[8, 8::16].astype(float) / np.iinfo(seen.dtype).max
    assert np.ptp(found, axis=-1).max() < 0.01  # grey stays grey
    dark = _srgb_signal(light[:4] / 203)
    assert abs(found[:4, 0] - dark).max() < 0.02
    assert (np.diff(found[:, 0]) > 0).all()
    assert found[-1, 0] > 0.98
    assert lost["dynamic_range"]["name"] == {16: "PQ", 18: "HLG"}[transfer]


def test_numbers_without_a_meaning_are_told(tmp_path: Path, photo: Pixels) -> None:
    assert cicp.profile(10, 13) is None
    source = _avif(photo, tmp_path, "--cicp", "10/13/6")
    assert _rendered(source, tmp_path)[1]["profile"] == {"reason": "unread", "name": "CICP 10/13"}


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 1), (12, 13), (11, 4), (6, 6), (1, 8)])
def test_profiles_are_those_of_littlecms(primaries: int, transfer: int, photo: Pixels) -> None:
    """The same colours by libvips' and by Pillow's LittleCMS; and white is white."""
    profile = cicp.profile(primaries, transfer)
    assert profile
    ours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    white = ImageCms.profileToProfile(Image.new("RGB", (1, 1), "white"), ours, ImageCms.createProfile("sRGB"))
    assert white is not None
    assert min(white.getpixel((0, 0))) >= 254  # type: ignore[arg-type,type-var]
    assert ImageCms.getProfileDescription(ours)


@pytest.mark.parametrize("alpha", [255, 128, 40])
def test_premultiplied_alpha_becomes_straight(tmp_path: Path, alpha: int) -> None:
    picture = np.zeros((32, 64, 4), np.uint8)
    picture[:] = (250, 120, 30, alpha)
    source = _avif(picture, tmp_path, "-p")
    seen, _ = _rendered(source, tmp_path)
    assert abs(seen[16, 32, :3].astype(int) - (250, 120, 30)).max() <= 255 // alpha + 2
    assert seen.shape[-1] == 3 or seen[16, 32, 3] == alpha  # avifenc leaves out what is opaque


# Grey in linear light


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "RGB"])
def test_grey_is_scaled_in_linear_light_too(tmp_path: Path, mode: str) -> None:
    y, x = np.mgrid[0:64, 0:64]
    checker = ((x + y) % 2 * 255).astype(np.uint8)
    image = (
        Image.fromarray(checker.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(checker).convert(mode)
    )
    image.save(tmp_path / "source", "PNG")
    seen, _ = _rendered(tmp_path / "source", tmp_path, Stage("resize", {"width": 16, "linear": True}))
    expected = _srgb_signal(np.array(0.5)) * np.iinfo(seen.dtype).max
    assert abs(seen.reshape(16, 16, -1)[8, 8, 0] / expected - 1) < 0.01
    assert (seen.ndim == 2 or seen.shape[-1]) == {"L": 1, "LA": 2, "I;16": 1, "RGB": 3}[mode]


# Sample types of TIFF


def _ramp(kind: str) -> NDArray[Any]:
    share = np.tile(np.linspace(0, 1, 48), (32, 1))
    return share * (3 - share) / 2 if kind == "grey" else np.stack([share, 1 - share, share * 0 + 0.25], -1)


@pytest.mark.parametrize("kind", ["grey", "rgb"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4"])
def test_every_kind_of_number_is_scaled(tmp_path: Path, kind: str, dtype: str) -> None:
    white = 1.0 if dtype.startswith("f") else float(np.iinfo(dtype).max)
    stored = (_ramp(kind) * white).astype(dtype)
    tifffile.imwrite(tmp_path / "source", stored, photometric="minisblack" if kind == "grey" else "rgb")
    expected = tifffile.imread(tmp_path / "source").astype(float) / white
    seen, lost = _rendered(tmp_path / "source", tmp_path)
    assert abs(seen.astype(float).squeeze() / np.iinfo(seen.dtype).max - expected).max() < (
        0.01 if dtype == "u1" else 0.001
    )
    assert lost == {}


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u8", "f8", "c8"])
def test_numbers_that_make_no_picture_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "source", _ramp("grey").astype(dtype))
    with pytest.raises(UnsupportedImage) as caught:
        _rendered(tmp_path / "source", tmp_path)
    assert not caught.value.retryable


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-40, 8000), (float("nan"), 1)])
def test_floating_point_numbers_without_a_known_white_are_refused(tmp_path: Path, low: float, high: float) -> None:
    stored = (_ramp("grey") * high).astype("f4")
    stored[0, 0] = low
    tifffile.imwrite(tmp_path / "source", stored)
    with pytest.raises(UnsupportedImage, match="NaN" if low != low else f"to {high}"):  # noqa: PLR0124
        _rendered(tmp_path / "source", tmp_path)


def test_what_is_a_little_over_white_is_cut_off_and_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "source", (_ramp("grey") * 1.2).astype("f4"))
    seen, lost = _rendered(tmp_path / "source", tmp_path)
    assert seen.max() == 65535
    assert lost == {"range": {"reason": "format", "minimum": 0.0, "maximum": 1.2}}


def test_linear_numbers_with_a_profile_that_says_so(tmp_path: Path) -> None:
    linear = cicp.profile(1, 8)
    tifffile.imwrite(tmp_path / "source", _ramp("rgb").astype("f4"), photometric="rgb", iccprofile=linear)
    seen, _ = _rendered(tmp_path / "source", tmp_path)
    assert abs(seen / 65535 - _srgb_signal(_ramp("rgb"))).max() < 0.01
