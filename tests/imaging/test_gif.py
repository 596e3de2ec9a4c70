"""A frame of a GIF that lacks pixels is found, and none that has them is refused."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImage
from app.imaging.decoding import gif
from tests.damage.originals import originals, picture, saved


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.gif"


@pytest.mark.parametrize("variant", originals("gif"))
def test_sound_frames_pass(file: Path, variant: str) -> None:
    file.write_bytes(originals("gif")[variant])
    gif.check(file, 99)


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        pytest.param(side, levels, marks=[pytest.mark.full] * (side == 700 or (side == 300 and levels in {3, 4, 17})))
        for side in (1, 2, 90, 300, 700)
        for levels in (2, 3, 4, 17, 256)
    ],
)
def test_every_size_of_codes_and_of_pictures_passes(file: Path, side: int, levels: int) -> None:
    for image in (picture(1, side, side), Image.new("RGB", (side, side), "red"), _noise(side)):
        file.write_bytes(saved(image.quantize(levels), "GIF"))
        gif.check(file, 1)


def _noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8))


def _coded(codes: list[int], size: int = 2, width: int = 8, height: int = 8) -> bytes:
    """A GIF of these codes, of three bits each."""
    bits = sum(code << 3 * number for number, code in enumerate(codes))
    data = bits.to_bytes(3 * len(codes) // 8 + 1, "little")
    head = b"GIF89a" + bytes((width, 0, height, 0, 0x81, 0, 0)) + bytes(12)
    image = b"," + bytes((0, 0, 0, 0, width, 0, height, 0, 0))
    return head + image + bytes((size, len(data))) + data + b"\0;"


CLEAR, END = 4, 5


def _filled(count: int) -> list[int]:
    """Codes for so many pixels, the table emptied before codes become wider."""
    return [code for _ in range(count // 2) for code in (CLEAR, 1, 1)]


@pytest.mark.parametrize(
    ("codes", "whole"),
    [
        (_filled(64), True),
        (_filled(64)[1:], True),  # the table is empty at the start
        ([*_filled(64), END], True),
        ([*_filled(64), CLEAR, 7, 7], True),  # what comes after the last pixel does not count
        (_filled(62), False),
        ([*_filled(62), END], False),
        ([*_filled(32), END, *_filled(32)], False),
        ([CLEAR, 6, *_filled(64)], False),  # the first code has to be a pixel
        ([CLEAR, 1, 7, *_filled(64)], False),  # a code that is made later
        ([CLEAR, 1, 6, *_filled(62)], True),  # the code that is being made
    ],
)
def test_codes(file: Path, codes: list[int], whole: bool) -> None:
    file.write_bytes(_coded(codes))
    if whole:
        gif.check(file, 1)
    else:
        with pytest.raises(CorruptImage, match="Frame 1"):
            gif.check(file, 1)


def test_frames_that_are_not_read_are_not_checked(file: Path) -> None:
    content = originals("gif")["animated"]
    file.write_bytes(content[:-300] + bytes(200) + content[-100:])
    gif.check(file, 1)
    with pytest.raises(CorruptImage, match="Frame 3"):
        gif.check(file, 3)


@pytest.mark.parametrize("variant", originals("gif"))
def test_it_agrees_with_pillow_about_damaged_data(file: Path, variant: str) -> None:
    content = originals("gif")[variant]
    refused = 0
    for seed in range(60):
        chance = random.Random(seed)
        damaged = bytearray(content)
        damaged[chance.randrange(len(content) // 2, len(content) - 20)] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            with Image.open(io.BytesIO(damaged)) as image:
                for number in range(getattr(image, "n_frames", 1)):
                    image.seek(number)
                    image.load()
        except OSError:
            refused += 1
            with pytest.raises((CorruptImage, Exception)):
                gif.check(file, 99)
        else:
            gif.check(file, 99)
    assert refused
