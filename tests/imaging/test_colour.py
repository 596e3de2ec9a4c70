"""Every colour model ends as 8-bit sRGB or 8-bit grey, with the colours that another library shows."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from app.imaging.colours.colour import to_eight_bits, to_srgb, to_working, with_background
from tests.imaging.conftest import Pixels, as_image, pixels, similarity


def _converted(path: Path) -> pyvips.Image:
    return _written(pyvips.Image.new_from_file(str(path))).copy_memory()


def _written(image: pyvips.Image) -> pyvips.Image:
    """As it is read and written by default."""
    return to_eight_bits(to_srgb(to_working(image)))


@pytest.mark.parametrize(
    ("name", "interpretation", "bands"),
    [
        ("jpeg", "srgb", 3),
        ("jpeg-grey", "b-w", 1),
        ("jpeg-cmyk", "srgb", 3),
        ("jpeg-p3", "srgb", 3),
        ("png-alpha", "srgb", 4),
        ("png-alpha-p3", "srgb", 4),
        ("png-palette", "srgb", 3),
        ("png-grey", "b-w", 1),
        ("png-grey-alpha", "b-w", 2),
        ("png-grey-16", "b-w", 1),
        ("png-rgb-16", "srgb", 3),
        ("tiff-big-endian", "b-w", 1),
        ("gif-animated", "srgb", 4),
    ],
)
def test_model_and_depth(samples: dict[str, Path], name: str, interpretation: str, bands: int) -> None:
    image = _converted(samples[name])
    assert (image.interpretation, image.bands, image.format) == (interpretation, bands, "uchar")


@pytest.mark.parametrize("name", ["png", "png-alpha", "png-palette", "png-grey", "png-grey-alpha", "png-rgb-16"])
def test_pixels_without_a_profile_stay(samples: dict[str, Path], name: str) -> None:
    mode = {"png-palette": "RGB", "png-rgb-16": "RGB"}.get(name)
    assert (_converted(samples[name]).numpy().squeeze() == pixels(samples[name], mode)).all()


def test_sixteen_bits_of_grey_become_eight(samples: dict[str, Path], photo: Pixels) -> None:
    assert (_converted(samples["png-grey-16"]).numpy().squeeze() == photo[..., 0]).all()


def _by_pillow(path: Path, profile: bytes) -> Pixels:
    with Image.open(path) as image:
        converted = ImageCms.profileToProfile(
            image.convert("RGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        )
    return np.asarray(converted)


@pytest.mark.parametrize("name", ["jpeg-p3", "png-alpha-p3"])
def test_a_profile_is_applied(samples: dict[str, Path], display_p3: bytes, name: str) -> None:
    expected = _by_pillow(samples[name], display_p3).astype(int)
    difference = abs(_converted(samples[name]).numpy()[..., :3].astype(int) - expected)
    assert difference.max() <= 2
    assert abs(pixels(samples[name], "RGB").astype(int) - expected).mean() > 3  # which a copy would be off by


def test_alpha_passes_a_profile_unchanged(samples: dict[str, Path]) -> None:
    assert (_converted(samples["png-alpha-p3"]).numpy()[..., 3] == pixels(samples["png-alpha-p3"])[..., 3]).all()


def test_a_broken_profile_is_ignored(samples: dict[str, Path]) -> None:
    image = _converted(samples["jpeg-broken-profile"]).numpy()
    assert similarity(image, pixels(samples["jpeg"])) > 0.99


def test_a_profile_for_another_model_is_ignored(samples: dict[str, Path], display_p3: bytes) -> None:
    image = pyvips.Image.new_from_file(str(samples["png-grey"])).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", display_p3)
    assert (_written(image).numpy().squeeze() == pixels(samples["png-grey"])).all()


@pytest.mark.parametrize("model", ["lab", "scrgb", "hsv"])
def test_a_profile_says_nothing_about_absolute_colours(photo: Pixels, display_p3: bytes, model: str) -> None:
    image = as_image(photo).colourspace(model).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", display_p3)
    assert abs(_written(image).numpy().astype(int) - photo).max() <= 6


CMYK = """
import sys
from pathlib import Path
from app.imaging import libvips
from app.imaging.pipeline import Limits, Stage, Target, render
libvips.configure(1)
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
stages = [[], [Stage("rotate", {"angle": 10})], [Stage("trim", {"background": "#ff0000"})],
          [Stage("resize", {"width": 300, "height": 300, "fit": "contain", "background": "#102030", "enlarge": True})]]
for number, some in enumerate(stages):
    for keep in ("none", "icc", "all"):
        target = Target(folder / "result", "convert_png", {"keep_metadata": keep})
        render(source, some, [target], Limits(10**6, 4000))
"""


def test_cmyk_in_a_process_that_saw_nothing_else(samples: dict[str, Path], tmp_path: Path) -> None:
    """libvips left its own CMYK profile on the RGB pixels, and crashed on it."""
    command = [sys.executable, "-c", CMYK, str(samples["jpeg-cmyk"]), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("colour", ["#000000", "#ff0000", "#102030", "#ffffff"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_background_of_wide_colours_has_the_depth_of_the_image(
    photo: Pixels, display_p3: bytes, colour: str, deep: bool
) -> None:
    image = as_image(photo).colourspace("rgb16" if deep else "srgb").copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", display_p3)
    _, background = with_background(image, colour)
    pixel = (image.crop(0, 0, 1, 1) * 0 + background).cast(image.format).copy(interpretation=image.interpretation)
    seen = to_eight_bits(to_srgb(pixel)).getpoint(0, 0)
    assert (
        np.abs(np.array(seen) - list(bytes.fromhex(colour[1:]))).max() <= 6
    )  # red of sRGB is not a whole number of P3


def test_channels_behind_alpha_are_left_out(photo: Pixels) -> None:
    result = _written(as_image(photo).bandjoin([255, 7, 8]))
    assert (result.bands, result[3].min()) == (4, 255)


def test_grey_with_a_profile_of_its_own_stays_grey(samples: dict[str, Path]) -> None:
    grey = pyvips.Image.new_from_file(str(samples["png-grey"]))
    linear = grey.copy()
    linear.set_type(pyvips.GValue.blob_type, "icc-profile-data", _grey_profile(gamma=1.0))
    result = _written(linear)
    assert (result.bands, result.interpretation) == (1, "b-w")
    assert result.avg() > grey.avg() + 30  # linear light is brighter than the same numbers in sRGB


def _grey_profile(gamma: float) -> bytes:
    """The smallest ICC profile of a grey scale."""
    import struct

    def tag(content: bytes) -> bytes:
        return content + bytes(-len(content) % 4)

    white = tag(b"XYZ \0\0\0\0" + struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D))
    curve = tag(b"curv\0\0\0\0" + struct.pack(">IH", 1, int(gamma * 256)))
    start = 128 + 4 + 2 * 12
    table = struct.pack(">I4sII4sII", 2, b"wtpt", start, len(white), b"kTRC", start + len(white), len(curve))
    size = start + len(white) + len(curve)
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + table + white + curve


def test_cmyk_looks_like_the_photograph(samples: dict[str, Path], photo: Pixels) -> None:
    """CMYK without a profile has no exact colours, but light stays light and red stays red."""
    result = _converted(samples["jpeg-cmyk"]).numpy()
    assert similarity(result.mean(-1), photo.mean(-1)) > 0.8
    red = result[42, 48].astype(int)
    assert red[0] > max(red[1:]) + 60
