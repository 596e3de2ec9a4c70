"""The size of AVIF and HEIC is that of the picture one sees, and only its own bytes have to be there."""

import io
import struct
from pathlib import Path

import pytest

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.decoding.decode import ImageFile
from app.imaging.probe import probe
from tests.damage.judges import run
from tests.damage.originals import originals, picture, saved


def _avif(folder: Path, *options: str) -> Path:
    """96 by 72 pixels, encoded by the reference encoder."""
    (folder / "in.png").write_bytes(saved(picture(), "PNG"))
    status, messages, _ = run("avifenc", "-s", "9", *options, folder / "in.png", folder / "out.avif")
    assert status == 0, messages
    return folder / "out.avif"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), (96, 72)),
        (("--irot", "1"), (72, 96)),
        (("--irot", "2"), (96, 72)),
        (("--irot", "3"), (72, 96)),
        (("--imir", "0"), (96, 72)),
        (("--clap", "40,1,20,1,0,1,0,1"), (40, 20)),
        (("--clap", "40,1,20,1,0,1,0,1", "--irot", "1"), (20, 40)),
    ],
)
def test_the_size_is_that_of_the_picture(tmp_path: Path, options: tuple[str, ...], size: tuple[int, int]) -> None:
    file = _avif(tmp_path, *options)
    with file.open("rb") as content:
        header = probe(content)
    assert (header.width, header.height) == size
    image = ImageFile.open(file).read()
    assert (image.width, image.height) == size


def test_the_size_of_a_cut_and_turned_picture_is_that_of_the_result(tmp_path: Path) -> None:
    for format_ in ("avif", "heic"):
        for name, content in originals(format_).items():
            file = tmp_path / "file"
            file.write_bytes(content)
            opened = ImageFile.open(file)
            assert (opened.header.width, opened.header.height) == opened.size, name


def _coded_as(kind: bytes) -> bytes:
    """An AVIF whose main image claims to be coded otherwise."""
    content = originals("avif")["420"]
    at = content.index(b"av01", content.index(b"iinf"))
    return content[:at] + kind + content[at + 4 :]


@pytest.mark.parametrize("kind", [b"avc1", b"j2k1", b"unci", b"vvc1"])
def test_a_coding_that_nobody_here_knows_is_named(kind: bytes) -> None:
    with pytest.raises(UnsupportedImage, match=kind.decode()):
        probe(io.BytesIO(_coded_as(kind)))


@pytest.mark.parametrize("format_", ["avif", "heic"])
def test_the_pixels_of_every_part_have_to_be_there(format_: str) -> None:
    for name in ("420", "444", "alpha"):
        content = originals(format_)[name]
        for missing in (1, 100, 1000):
            with pytest.raises(TruncatedImage):
                probe(io.BytesIO(content[:-missing]))


@pytest.mark.parametrize("format_", ["avif", "heic"])
@pytest.mark.parametrize(
    "trailer", [b"\n", b"MotionPhoto_Data\0\0\0\x18ftypmp42" + bytes(60), struct.pack(">I4s", 3, b"free"), b"\0" * 7]
)
def test_what_comes_after_the_last_box_does_not_count(format_: str, trailer: bytes) -> None:
    for content in originals(format_).values():
        assert probe(io.BytesIO(content + trailer)) == probe(io.BytesIO(content))


@pytest.mark.parametrize("format_", ["avif", "heic"])
def test_damage_in_a_sequence_leaves_the_main_image(format_: str) -> None:
    """The list of the sequence's samples is in a box that reaches over the end of the box around it."""
    sequence = struct.pack(">I4sI4s8x", 24, b"moov", 40, b"trak") + struct.pack(">I4s24x", 32, b"free")
    content = originals(format_)["420"]
    assert probe(io.BytesIO(content + sequence)) == probe(io.BytesIO(content))
