"""HEIC, where its decoder is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from app.errors import CorruptImage
from app.imaging import heic
from tests.unit.imaging.conftest import Pixels, similarity


@pytest.mark.parametrize(
    ("name", "bands", "kind"), [("heic", 3, "uchar"), ("heic-alpha", 4, "uchar"), ("heic-10-bit", 3, "ushort")]
)
def test_pixels(samples: dict[str, Path], photo: Pixels, name: str, bands: int, kind: str) -> None:
    image = heic.load(samples[name])
    assert (image.width, image.height, image.bands, image.format) == (160, 120, bands, kind)
    seen = image.numpy()[..., :3]
    eight_bits = (seen / 257 if kind == "ushort" else seen).astype(np.uint8)
    assert similarity(eight_bits.mean(-1), photo.mean(-1)) > 0.95


def test_a_worker_without_the_decoder_says_so(samples: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(CorruptImage, match="pi-heif"):
        heic.load(samples["heic"])


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
