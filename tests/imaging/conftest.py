"""Sample files of every format and variant, and what results are held against."""

import io
import os
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from app.imaging import libvips

Pixels = NDArray[np.uint8]

WIDTH, HEIGHT = 160, 120  # pixels of every sample
GOLDEN = Path(__file__).parents[1] / "golden"
ORIENTATION, GPS = 0x0112, 0x8825  # EXIF tags
SECRET = "55 deg 45 min"  # stands for a place that must not get out


@pytest.fixture(scope="session", autouse=True)
def _configured() -> None:
    libvips.configure(concurrency=2)


def photograph(width: int = WIDTH, height: int = HEIGHT, seed: int = 7) -> Pixels:
    """Smooth light, hard edges and fine grain, different in each corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    light = np.stack([140 * x + 60 * y, 120 * (1 - x) + 70 * y, 60 + 130 * (1 - y) * x], axis=-1)
    light[(x - 0.3) ** 2 + (y - 0.35) ** 2 < 0.03] = (220, 60, 40)
    light[(abs(x - 0.75) < 0.12) & (abs(y - 0.7) < 0.1)] = (30, 90, 200)
    light[(8 * x).astype(int) % 2 == 0] += 12
    return (light + rng.normal(0, 1.5, light.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photo() -> Pixels:
    """The picture that all RGB samples show."""
    return photograph()


@pytest.fixture(scope="session")
def display_p3() -> bytes:
    """An ICC profile with larger primaries than sRGB's."""
    return bytes(pyvips.Image.profile_load("p3"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, photo: Pixels, display_p3: bytes) -> dict[str, Path]:
    """Path of each sample by name; the name begins with the format."""
    folder = tmp_path_factory.mktemp("samples")
    files = {
        **_jpegs(photo, display_p3),
        **_pngs(photo, display_p3),
        **_webps(photo),
        **_gifs(photo),
        **_tiffs(photo),
        **_avifs(photo),
        **_heics(photo),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def in_turn(names: Sequence[str], ops: Sequence[str], ways: Sequence[tuple[object, ...]]) -> list[Any]:
    """Cases of each source, operation and way. `make test` has each pair in one way, and each of both in many ways."""
    return [
        pytest.param(name, op, *way, marks=[pytest.mark.full] * ((i + j - k) % len(ways) > 0))
        for (i, name), (j, op), (k, way) in product(enumerate(names), enumerate(ops), enumerate(ways))
    ]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file made by Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    """EXIF data with an orientation and a place."""
    data = Image.Exif()
    data[ORIENTATION] = orientation
    data[0x010E] = SECRET  # ImageDescription
    data.get_ifd(GPS)[1] = "N"
    return data


def unturned(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels that a camera stores so that this orientation shows the image upright."""
    flip, turn = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose
    steps = {
        1: [],
        2: [flip],
        3: [turn.ROTATE_180],
        4: [turn.FLIP_TOP_BOTTOM],
        5: [turn.TRANSPOSE],
        6: [turn.ROTATE_90],
        7: [turn.TRANSVERSE],
        8: [turn.ROTATE_270],
    }
    for step in steps[orientation]:
        image = image.transpose(step)
    return image


def with_alpha(photo: Pixels) -> Image.Image:
    """Opaque at the left, transparent at the right."""
    alpha = np.linspace(255, 0, photo.shape[1]).astype(np.uint8)
    return Image.fromarray(np.dstack([photo, np.tile(alpha, (photo.shape[0], 1))]))


def frames(count: int = 3) -> list[Image.Image]:
    return [Image.fromarray(photograph(seed=seed)) for seed in range(7, 7 + count)]


def _jpegs(photo: Pixels, profile: bytes) -> dict[str, bytes]:
    image = Image.fromarray(photo)
    plain = encoded(image, "JPEG", quality=95)
    segment = b"\xff\xec\xff\xff" + bytes(0xFFFD)
    oriented = {
        f"jpeg-orientation-{number}": encoded(unturned(image, number), "JPEG", quality=95, exif=exif(number))
        for number in range(1, 9)
    }
    return {
        "jpeg": plain,
        "jpeg-progressive": encoded(image, "JPEG", quality=95, progressive=True),
        "jpeg-grey": encoded(image.convert("L"), "JPEG", quality=95),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "jpeg-p3": encoded(image, "JPEG", quality=100, subsampling=0, icc_profile=profile),
        "jpeg-broken-profile": encoded(image, "JPEG", quality=95, icc_profile=b"no profile at all" * 20),
        "jpeg-restarts": encoded(image, "JPEG", quality=95, restart_marker_blocks=4),
        "jpeg-fill-bytes": plain[:2] + b"\xff" * 9 + plain[2:],
        "jpeg-large-app": plain[:2] + segment * 20 + plain[2:],
        "jpeg-trailing-bytes": plain + b"\0" * 100,
        **oriented,
    }


def _pngs(photo: Pixels, profile: bytes) -> dict[str, bytes]:
    image = Image.fromarray(photo)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET)
    wide = pyvips.Image.new_from_array(photo.astype(np.uint16) * 257).copy(interpretation="rgb16")
    animated = {"save_all": True, "append_images": frames()[1:], "duration": 50}
    return {
        "png": encoded(image, "PNG", exif=exif(), pnginfo=text),
        "png-alpha": encoded(with_alpha(photo), "PNG"),
        "png-alpha-p3": encoded(with_alpha(photo), "PNG", icc_profile=profile),
        "png-palette": encoded(image.quantize(64), "PNG"),
        "png-grey": encoded(image.convert("L"), "PNG"),
        "png-grey-alpha": encoded(with_alpha(photo).convert("LA"), "PNG"),
        "png-grey-16": encoded(Image.fromarray(photo[..., 0].astype(np.uint16) * 257), "PNG"),
        "png-rgb-16": bytes(wide.pngsave_buffer()),
        "png-interlaced": bytes(as_image(photo).pngsave_buffer(interlace=True)),
        "png-animated": encoded(image, "PNG", **animated),
    }


def _webps(photo: Pixels) -> dict[str, bytes]:
    image = Image.fromarray(photo)
    animated = {"save_all": True, "append_images": frames()[1:], "duration": 50}
    return {
        "webp": encoded(image, "WEBP", quality=95),
        "webp-lossless": encoded(image, "WEBP", lossless=True),
        "webp-alpha": encoded(with_alpha(photo), "WEBP", quality=95),
        "webp-metadata": encoded(image, "WEBP", quality=95, exif=exif(), xmp=SECRET.encode()),
        "webp-animated": encoded(image, "WEBP", **animated),
    }


def _gifs(photo: Pixels) -> dict[str, bytes]:
    image = Image.fromarray(photo).quantize(64)
    animated = {"save_all": True, "append_images": frames()[1:], "duration": 50, "loop": 0}
    return {
        "gif": encoded(image, "GIF", comment=SECRET),
        "gif-interlaced": encoded(image, "GIF", interlace=True),
        "gif-animated": encoded(frames()[0], "GIF", **animated),
    }


def _tiffs(photo: Pixels) -> dict[str, bytes]:
    image = Image.fromarray(photo)
    big_endian = Image.new("I;16B", image.size)
    big_endian.paste(image.convert("L"))
    raw = as_image(photo)
    return {
        "tiff": encoded(image, "TIFF"),
        "tiff-64-bit": encoded(image, "TIFF", big_tiff=True),
        "tiff-big-endian": encoded(big_endian, "TIFF"),
        "tiff-deflate": encoded(image, "TIFF", compression="tiff_deflate"),
        "tiff-alpha": encoded(with_alpha(photo), "TIFF"),
        "tiff-tiled": bytes(raw.tiffsave_buffer(tile=True, tile_width=64, tile_height=64)),
        "tiff-oriented": encoded(unturned(image, 6), "TIFF", tiffinfo={ORIENTATION: 6}),
        "tiff-private-tag": encoded(image, "TIFF", tiffinfo={42112: "private"}),
        "tiff-pages": encoded(image, "TIFF", save_all=True, append_images=frames()[1:]),
    }


def _avifs(photo: Pixels) -> dict[str, bytes]:
    image = Image.fromarray(photo)
    animated = {"save_all": True, "append_images": frames()[1:], "duration": 50}
    return {
        "avif": encoded(image, "AVIF", quality=90, exif=exif()),
        "avif-alpha": encoded(with_alpha(photo), "AVIF", quality=90),
        "avif-animated": encoded(image, "AVIF", quality=90, **animated),
    }


def _heics(photo: Pixels) -> dict[str, bytes]:
    def encoded_by_x265(mode: str, pixels: NDArray[Any], **options: Any) -> bytes:
        buffer = io.BytesIO()
        height, width = pixels.shape[:2]
        pillow_heif.from_bytes(mode, (width, height), pixels.tobytes()).save(buffer, quality=95, **options)
        return buffer.getvalue()

    return {
        "heic": encoded_by_x265("RGB", photo, exif=exif().tobytes()),
        "heic-alpha": encoded_by_x265("RGBA", np.asarray(with_alpha(photo))),
        "heic-10-bit": encoded_by_x265("RGB;16", photo.astype(np.uint16) * 257),
    }


def similarity(first: Pixels, second: Pixels) -> float:
    """Mean structural similarity (SSIM) of two pictures of one size, over windows of 7 by 7."""
    assert first.shape == second.shape
    if first.ndim == 3:
        return min(similarity(first[..., band], second[..., band]) for band in range(first.shape[-1]))
    one, two = first.astype(np.float64), second.astype(np.float64)
    mean_one, mean_two = _means(one), _means(two)
    covariance = _means(one * two) - mean_one * mean_two
    variances = _means(one**2) - mean_one**2 + _means(two**2) - mean_two**2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_one * mean_two + c1) / (mean_one**2 + mean_two**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())


def _means(values: NDArray[np.float64], side: int = 7) -> NDArray[np.float64]:
    """The mean of each square window, by sums of all values above and to the left."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows: NDArray[np.float64] = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return windows / side**2


def as_image(picture: Pixels) -> pyvips.Image:
    """Pixels as the operations get them."""
    image = pyvips.Image.new_from_array(picture)
    return image.copy(interpretation="b-w" if image.bands < 3 else "srgb")


def pixels(path: Path, mode: str | None = None) -> Pixels:
    """What an independent reader sees."""
    with Image.open(path) as image:
        return np.asarray(image.convert(mode) if mode else image)


@pytest.fixture
def matches_golden() -> Callable[[Path], bool]:
    """Compares a result with the stored one of the same name; PIXTOOLS_WRITE_GOLDEN=1 stores it instead."""

    def matches(result: Path) -> bool:
        golden = GOLDEN / result.name
        if os.environ.get("PIXTOOLS_WRITE_GOLDEN"):
            golden.write_bytes(result.read_bytes())
        return similarity(pixels(result), pixels(golden)) > 0.99

    return matches
