"""Which picture of a TIFF is read, and which kinds are refused by name."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from app.errors import UnsupportedImage
from app.imaging.decoding.decode import ImageFile
from app.imaging.probe import ImageHeader, probe
from tests.damage.originals import picture, saved

Entry = tuple[int, int, int, int]  # tag, type, count, value
SHORT, LONG = 3, 4
REDUCED, MASK = 1, 4
THUMBNAIL, PICTURE = (8, 6), (40, 30)


def _page(size: tuple[int, int], at: int, *more: Entry) -> Sequence[Entry]:
    """A grey page of one strip at a place of the file."""
    width, height = size
    return sorted(
        [
            (256, SHORT, 1, width),
            (257, SHORT, 1, height),
            (258, SHORT, 1, 8),
            (259, SHORT, 1, 1),
            (262, SHORT, 1, 1),
            (273, LONG, 1, at),
            (277, SHORT, 1, 1),
            (278, SHORT, 1, height),
            (279, LONG, 1, width * height),
            *more,
        ]
    )


def _directory(entries: Sequence[Entry], following: int = 0) -> bytes:
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", following)


PIXELS = 8, 8 + 48  # where those of the thumbnail and those of the picture are
FIRST = PIXELS[1] + 1200


def _tiff(kind: int, *, below: bool, second: int = 0) -> bytes:
    """A file whose first page is of this kind; the picture comes below it, or after it."""
    count = 11 if below else 10
    after = FIRST + 2 + 12 * count + 4
    more = [(330, LONG, 1, after)] if below else []
    first = _page(THUMBNAIL, PIXELS[0], (254, LONG, 1, kind), *more)
    last = _page(PICTURE, PIXELS[1], (254, LONG, 1, second))
    assert len(first) == count
    directories = _directory(first, 0 if below else after) + _directory(last)
    return b"II*\0" + struct.pack("<I", FIRST) + bytes(48) + b"\x80" * 1200 + directories


@pytest.mark.parametrize("kind", [REDUCED, MASK, REDUCED | MASK])
@pytest.mark.parametrize("below", [False, True])
def test_the_picture_is_read_and_not_its_thumbnail(tmp_path: Path, kind: int, below: bool) -> None:
    file = tmp_path / "file.tif"
    file.write_bytes(_tiff(kind, below=below))
    opened = ImageFile.open(file)
    assert (opened.header.width, opened.header.height) == PICTURE
    image = opened.read()
    assert (image.width, image.height) == PICTURE == opened.size
    assert image.avg() == 0x80


@pytest.mark.parametrize("below", [False, True])
def test_the_first_of_several_pictures_is_read(tmp_path: Path, below: bool) -> None:
    """Also a file of nothing but thumbnails."""
    file = tmp_path / "file.tif"
    for content in (_tiff(0, below=below), _tiff(REDUCED, below=below, second=REDUCED)):
        file.write_bytes(content)
        assert ImageFile.open(file).size == THUMBNAIL
        assert ImageFile.open(file).read().avg() == 0


def test_pages_that_are_not_read_count_for_no_limit() -> None:
    pages = saved(picture(), "TIFF", save_all=True, append_images=[picture()] * 100)
    header = probe(io.BytesIO(pages))
    assert (header.frames, header.frames_read) == (101, 1)


def test_frames_of_an_animation_count() -> None:
    for kind in ("GIF", "WEBP"):
        header = probe(io.BytesIO(saved(picture(1), kind, save_all=True, append_images=[picture(2), picture(3)])))
        assert (header.frames, header.frames_read) == (3, 3)


def test_a_page_that_is_not_read_may_be_broken(tmp_path: Path) -> None:
    content = bytearray(saved(picture(), "TIFF", save_all=True, append_images=[picture(5)], compression="tiff_lzw"))
    sound = _pixels(content, tmp_path)
    with Image.open(io.BytesIO(content)) as image:
        image.seek(1)
        strip = image.tag_v2[273][0]
    content[strip : strip + 200] = bytes(200)
    assert _pixels(content, tmp_path) == sound
    content[-60:] = b"\xff" * 60
    assert _pixels(content, tmp_path) == sound


def _pixels(content: bytes, folder: Path) -> bytes:
    file = folder / "file.tif"
    file.write_bytes(content)
    return bytes(ImageFile.open(file).read().write_to_memory())


def _changed(tag: int, value: int) -> io.BytesIO:
    """A TIFF with another value of a tag."""
    content = saved(picture(), "TIFF")
    for kind in (SHORT, LONG):
        entry = struct.pack("<HHI", tag, kind, 1)
        if entry in content:
            at = content.index(entry) + 8
            return io.BytesIO(content[:at] + struct.pack("<I", value) + content[at + 4 :])
    raise AssertionError(tag)


@pytest.mark.parametrize(
    ("compression", "name"),
    [(50000, "Zstandard"), (34925, "LZMA"), (34887, "LERC"), (34712, "JPEG 2000"), (50002, "JPEG XL"), (9, "number 9")],
)
def test_a_compression_that_nobody_here_knows_is_named(compression: int, name: str) -> None:
    with pytest.raises(UnsupportedImage, match=name):
        probe(_changed(259, compression))


@pytest.mark.parametrize(
    ("photometric", "reason"), [(32803, "raw sensor data"), (34892, "raw sensor data"), (32845, "LogLuv")]
)
def test_pixels_that_are_no_picture_are_unsupported(photometric: int, reason: str) -> None:
    with pytest.raises(UnsupportedImage, match=reason):
        probe(_changed(262, photometric))


def test_cielab_of_8_bits_is_unsupported_and_not_damaged() -> None:
    with pytest.raises(UnsupportedImage, match="CIELAB of 8 bits"):
        probe(io.BytesIO(saved(Image.new("LAB", (16, 16), (128, 200, 128)), "TIFF")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_upright(orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    header = probe(io.BytesIO(saved(picture(1, 90, 30), "TIFF", tiffinfo=tags)))
    assert (header.width, header.height) == ((30, 90) if orientation > 4 else (90, 30))


def test_arrays_of_every_kind_have_their_size() -> None:
    for kind in (np.uint8, np.uint16, np.float32):
        image = Image.fromarray(np.zeros((30, 90), kind))
        assert probe(io.BytesIO(saved(image, "TIFF"))) == ImageHeader("tiff", 90, 30)
