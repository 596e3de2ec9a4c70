"""HEIC, as phones send it."""

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from app.errors import CorruptImage
from app.imaging.decoding import heic
from app.imaging.pipeline import Limits, Target, render
from tests.imaging.conftest import ORIENTATION, Pixels, exif, similarity, unturned


@pytest.mark.parametrize(
    ("name", "bands", "kind"), [("heic", 3, "uchar"), ("heic-alpha", 4, "uchar"), ("heic-10-bit", 3, "ushort")]
)
def test_pixels(samples: dict[str, Path], photo: Pixels, name: str, bands: int, kind: str) -> None:
    image = heic.load(samples[name])
    assert (image.width, image.height, image.bands, image.format) == (160, 120, bands, kind)
    seen = image.numpy()[..., :3]
    eight_bits = (seen / 257 if kind == "ushort" else seen).astype(np.uint8)
    assert similarity(eight_bits.mean(-1), photo.mean(-1)) > 0.95


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_phones_pictures_stand_upright(tmp_path: Path, photo: Pixels, orientation: int) -> None:
    """As phones write them: turned by the file's own transformation, with EXIF that says the same."""
    buffer = io.BytesIO()
    stored = unturned(Image.fromarray(photo), orientation)
    pillow_heif.from_pillow(stored).save(buffer, quality=90, exif=exif(orientation).tobytes())
    assert (b"irot" in buffer.getvalue()) == (orientation > 1)
    (tmp_path / "source").write_bytes(buffer.getvalue())
    target = Target(tmp_path / "result", "convert_png", {"keep_metadata": "all"})
    [rendered] = render(tmp_path / "source", [], [target], Limits(pixels=10**6, side=4000))
    assert rendered
    assert (rendered.width, rendered.height) == (160, 120)
    with Image.open(target.path) as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
        assert abs(np.asarray(image.convert("RGB")).astype(int) - photo).mean() < 3


@pytest.mark.parametrize("content", [b"", b"no image", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"])
def test_what_cannot_be_decoded_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(CorruptImage):
        heic.load(tmp_path / "source")


def test_half_a_file_is_corrupt(samples: dict[str, Path], tmp_path: Path) -> None:
    content = samples["heic"].read_bytes()
    (tmp_path / "source").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptImage):
        heic.load(tmp_path / "source")
