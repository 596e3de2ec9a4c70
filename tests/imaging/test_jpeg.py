"""Lost pixels of a JPEG are found at every scale of its decoder; odd headers are none."""

import random
from pathlib import Path

import numpy as np
import pytest
import pyvips

from app.errors import CorruptImage
from app.imaging.decoding import jpeg
from app.imaging.decoding.decode import ImageFile
from tests.damage.judges import judge, run
from tests.damage.originals import originals, picture, saved

SHRINKS = (1, 2, 4, 8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.jpeg"


def _pixels(image: pyvips.Image) -> np.ndarray:
    return image.numpy().astype(int)


@pytest.mark.parametrize("variant", [name for name in originals("jpeg") if name != "CMYK"])
@pytest.mark.parametrize("shrink", SHRINKS)
def test_the_pixels_are_those_that_libvips_decodes(file: Path, variant: str, shrink: int) -> None:
    file.write_bytes(originals("jpeg")[variant])
    image = jpeg.load(file, shrink)
    expected = pyvips.Image.new_from_file(str(file), shrink=shrink)
    assert image is not None
    assert (image.width, image.height, image.bands) == (expected.width, expected.height, expected.bands)
    assert image.interpretation == expected.interpretation
    assert np.abs(_pixels(image) - _pixels(expected)).max() <= 2


@pytest.mark.parametrize("variant", originals("jpeg"))
def test_random_bytes_in_the_scan_are_found_at_every_scale(file: Path, variant: str) -> None:
    content = originals("jpeg")[variant]
    found = 0
    for seed in range(20):
        chance = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(3):
            damaged[chance.randrange(content.rindex(b"\xff\xda") + 14, len(content) - 2)] = chance.randrange(256)
        file.write_bytes(damaged)
        if judge("jpeg", file, first=True).damaged:
            found += 1
            for shrink in SHRINKS:
                with pytest.raises(CorruptImage):
                    jpeg.load(file, shrink)
    assert found >= 5


def test_what_is_left_over_after_the_last_block_is_damage(file: Path) -> None:
    """The decoder lost its place; libvips never looks there."""
    content = originals("jpeg")["420"]
    file.write_bytes(content[:-2] + b"abcdefghijklm" + content[-2:])
    with pytest.raises(CorruptImage):
        jpeg.load(file, 1)


@pytest.mark.parametrize("padding", [bytes(1), bytes(40), b"\xff" * 40, b"\xff\0" * 9, b"\0\xff" * 9])
@pytest.mark.parametrize("variant", ["420", "progressive", "restarts", "CMYK"])
def test_padding_after_the_last_block_is_none(file: Path, padding: bytes, variant: str) -> None:
    content = originals("jpeg")[variant]
    file.write_bytes(content[:-2] + padding + content[-2:])
    jpeg.load(file, 2)


def test_a_half_file_that_was_padded_with_zeros_is_damaged(file: Path) -> None:
    content = originals("jpeg")["420"]
    file.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    with pytest.raises(CorruptImage):
        jpeg.load(file, 1)


@pytest.mark.parametrize("variant", originals("jpeg"))
def test_a_missing_end_costs_no_pixel(file: Path, variant: str) -> None:
    content = originals("jpeg")[variant]
    for ending in (b"", bytes(99)):
        file.write_bytes(content[:-2] + ending)
        jpeg.load(file, 1)
    file.write_bytes(content[:-12])
    with pytest.raises(CorruptImage):
        jpeg.load(file, 1)


def test_odd_headers_and_damage_are_damage(file: Path) -> None:
    """Whatever the decoder warns of first."""
    content = originals("jpeg")["420"].replace(b"JFIF\0\1", b"JFIF\0\7")
    file.write_bytes(content)
    jpeg.load(file, 2)
    file.write_bytes(content[:-300] + content[-200:])
    with pytest.raises(CorruptImage):
        jpeg.load(file, 2)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["4x2", "3x1", "1x4"])
def test_rare_sampling_is_decoded_by_libvips(file: Path, tmp_path: Path, sampling: str) -> None:
    ppm = tmp_path / "picture.ppm"
    ppm.write_bytes(saved(picture(), "PPM"))
    status, _, content = run("cjpeg", "-sample", sampling, "-quality", "90", ppm)
    assert status == 0
    file.write_bytes(content)
    whole = ImageFile.open(file).read(2).copy_memory()
    assert abs(whole.avg() - np.asarray(picture()).mean()) < 1
    for sound in (content[:-2] + bytes(9) + content[-2:], content.replace(b"JFIF\0\1", b"JFIF\0\7")):
        file.write_bytes(sound)
        assert ImageFile.open(file).read(2).avg() == whole.avg()
    for start in range(len(content) // 2, len(content) - 60, 30):
        file.write_bytes(content[:start] + content[start + 20 :])
        if judge("jpeg", file, first=True).damaged:
            with pytest.raises(CorruptImage):
                ImageFile.open(file).read(2)
