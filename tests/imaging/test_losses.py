"""What of a source does not reach a result is reported, in one shape; what does reach it is not."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from app.errors import ImageNotEncoded
from app.imaging.pipeline import INTERMEDIATE, Limits, Stage, Target, _encoding, render
from app.imaging.recipe import Monitor
from tests.imaging.conftest import Pixels, encoded, exif, frames, pixels
from tests.support.exiftool import exiftool

LIMITS = Limits(pixels=1_000_000, side=4000)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="Agency" '
    'photoshop:Instructions="{}"/></rdf:RDF></x:xmpmeta>'
)


def _lost(source: Path | bytes, folder: Path, op: str, *stages: Stage, **params: Any) -> dict[str, Any]:
    if isinstance(source, bytes):
        (folder / "source").write_bytes(source)
        source = folder / "source"
    monitor = Monitor()
    target = Target(folder / "result", op, params)
    render(source, [*stages, Stage(op, params)], [target], LIMITS, monitor)
    lost: dict[str, Any] = monitor.reports.get(len(stages), {}).get("lost", {})
    assert all(set(found) >= {"reason"} for found in lost.values())
    return lost


def test_a_plain_picture_loses_nothing(samples: dict[str, Path], tmp_path: Path) -> None:
    for name in ("jpeg", "png-alpha", "webp", "gif", "tiff", "avif-alpha", "png-grey"):
        assert _lost(samples[name], tmp_path, "convert_png") == {}, name


@pytest.mark.parametrize(
    ("name", "op", "stages", "expected"),
    [
        ("gif-animated", "convert_png", [], {"animation": {"reason": "format", "frames": 3, "written": 1}}),
        ("webp-animated", "convert_webp", [], {}),
        ("png-animated", "convert_webp", [], {"animation": {"reason": "unread", "frames": 3, "written": 1}}),
        ("avif-animated", "convert_webp", [], {"animation": {"reason": "unread", "frames": 3, "written": 1}}),
        ("tiff-pages", "convert_jpeg", [], {"pages": {"reason": "unread", "pages": 3, "written": 1}}),
        ("png-rgb-16", "convert_jpeg", [], {"depth": {"reason": "format", "bits": 16, "written": 8}}),
        ("png-rgb-16", "convert_png", [], {}),
        ("jpeg-broken-profile", "convert_png", [], {"profile": {"reason": "broken"}}),
    ],
)
def test_losses(
    samples: dict[str, Path], tmp_path: Path, name: str, op: str, stages: list[Stage], expected: dict[str, Any]
) -> None:
    assert _without_exif(_lost(samples[name], tmp_path, op, *stages)) == expected
    between = tmp_path / "x.between"
    render(samples[name], [], [Target(between, INTERMEDIATE, {})], LIMITS)
    assert _without_exif(_lost(between, tmp_path, op, *stages)) == expected


def _without_exif(lost: dict[str, Any]) -> dict[str, Any]:
    """Some samples are written by libvips, which adds a block."""
    return {name: found for name, found in lost.items() if name != "exif"}


def test_metadata_is_lost_unless_asked_for(tmp_path: Path, photo: Pixels, display_p3: bytes) -> None:
    said: dict[str, Any] = {"exif": exif(), "xmp": XMP.format("x").encode(), "icc_profile": display_p3}
    source = encoded(Image.fromarray(photo), "WEBP", **said)
    unasked = _lost(source, tmp_path, "convert_jpeg")
    assert {name: found["reason"] for name, found in unasked.items()} == dict.fromkeys(
        ("exif", "xmp", "profile", "wide_gamut"), "keep_metadata"
    )
    assert _lost(source, tmp_path, "convert_jpeg", keep_metadata="all") == {}
    assert _lost(source, tmp_path, "convert_tiff", keep_metadata="all") == {"exif": {"reason": "format"}}


def test_a_profile_of_srgb_is_no_wide_gamut(tmp_path: Path, photo: Pixels) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lost = _lost(encoded(Image.fromarray(photo), "PNG", icc_profile=profile), tmp_path, "convert_png")
    assert lost == {"profile": {"reason": "keep_metadata", "name": "sRGB built-in"}}


@pytest.mark.parametrize("length", [64_000, 70_000, 300_000])
def test_long_xmp_reaches_every_format(tmp_path: Path, photo: Pixels, length: int) -> None:
    source = encoded(Image.fromarray(photo), "WEBP", xmp=XMP.format("x" * length).encode())
    results = [tmp_path / op for op in ("convert_jpeg", "convert_png", "convert_webp", "convert_avif")]
    for result in results:
        assert _lost(source, tmp_path, result.name, keep_metadata="all") == {}, result
        (tmp_path / "result").rename(result)
        assert pixels(result).shape[:2] == photo.shape[:2]
    for result, read in zip(results, exiftool(*results), strict=True):
        assert len(read["XMP-photoshop:Instructions"]) == length, result


def test_what_is_too_large_to_travel_is_told(tmp_path: Path, photo: Pixels) -> None:
    source = encoded(Image.fromarray(photo), "WEBP", xmp=XMP.format("x" * 1_500_000).encode())
    lost = _lost(source, tmp_path, "convert_webp", keep_metadata="all")
    assert (lost["xmp"]["reason"], lost["xmp"]["bytes"] > 1_500_000) == ("too_large", True)


def test_pictures_beside_the_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    frames()[0].save(buffer, "MPO", save_all=True, append_images=frames()[1:])
    assert _lost(buffer.getvalue(), tmp_path, "convert_png")["sub_images"] == {"reason": "unread"}


def _damaged_profiles(count: int = 60) -> list[bytes]:
    """Twenty bytes changed."""
    rng = np.random.default_rng(12)
    found = []
    for _ in range(count):
        profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        for at in rng.integers(0, len(profile), 20):
            profile[at] = rng.integers(256)
        found.append(bytes(profile))
    return found


def _is_usable_by_littlecms(profile: bytes) -> bool:
    try:
        ImageCms.profileToProfile(
            Image.new("RGB", (1, 1)), ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        )
    except (OSError, ImageCms.PyCMSError):
        return False
    return True


@pytest.mark.parametrize("keep", ["none", "icc"])
def test_a_broken_profile_is_ignored_and_told(tmp_path: Path, photo: Pixels, keep: str) -> None:
    usable = 0
    small = Image.fromarray(photo[:8, :8])
    for profile in _damaged_profiles():
        lost = _lost(encoded(small, "PNG", icc_profile=profile), tmp_path, "convert_png", keep_metadata=keep)
        broken = lost.get("profile", {}).get("reason") == "broken"
        assert broken != _is_usable_by_littlecms(profile)
        usable += not broken
        if broken:
            assert (pixels(tmp_path / "result") == photo[:8, :8]).all()
    assert usable < 60


def test_what_an_encoder_refuses_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ImageNotEncoded) as caught, _encoding():
        pyvips.Image.black(70_000, 1).jpegsave(str(tmp_path / "result"))
    assert not caught.value.retryable


NO_MEMORY = """
import resource, sys
import psutil, pyvips
from app.errors import WorkspaceFailed
from app.imaging.pipeline import _encoding
image = pyvips.Image.black(5000, 5000, bands=3).copy(interpretation="srgb").copy_memory()
image.crop(0, 0, 9, 9).jpegsave_buffer(interlace=True), image.crop(0, 0, 9, 9).pngsave_buffer(interlace=True)
limit = psutil.Process().memory_info().vms + 50_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for save in (image.jpegsave, image.pngsave):
    try:
        with _encoding():
            save(sys.argv[1], interlace=True)
    except WorkspaceFailed:
        print("workspace")
"""


def test_no_memory_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_MEMORY, str(tmp_path / "result")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["workspace", "workspace"], done.stderr
