"""`probe` agrees with two real decoders on sound files, and stays calm with all others."""

import io
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pillow_heif
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from app.errors import EmptyFile, TruncatedImage, UnsupportedImage
from app.imaging.probe import ImageHeader, probe, reader
from app.imaging.probe.reader import SEARCH_BLOCK
from tests.support.sampling import sampled

SOUND_PREFIXES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"GIF89a",
    b"RIFF\xff\0\0\0WEBPVP8X",
    b"II*\0\x08\0\0\0",
    b"MM\0+\0\x08\0\0",
    b"\0\0\0\x10ftypavif\0\0\0\0",
)
SLOWEST = 3.0  # seconds of CPU; the worst input found takes 1.5 s, ordinary ones milliseconds


def test_agrees_with_pillow_and_libvips(samples: dict[str, Path]) -> None:
    for name, path in samples.items():
        with path.open("rb") as file:
            header = probe(file)
        assert header.format == name.partition("-")[0]
        assert (header.width, header.height, header.frames) == _as_pillow(path, name), name
        if "animated" not in name and header.format != "heic":  # which libvips does not recognise
            assert (header.width, header.height, header.frames) == _as_libvips(path), name


def _as_pillow(path: Path, name: str) -> tuple[int, int, int]:
    if name.startswith("heic"):
        return *pillow_heif.open_heif(path).size, 1
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        return *ImageOps.exif_transpose(image).size, frames


def _as_libvips(path: Path) -> tuple[int, int, int]:
    image = pyvips.Image.new_from_file(str(path)).autorot()
    return image.width, image.height, image.get("n-pages") if image.get_typeof("n-pages") else 1


ONE_OF_MANY = {"png-animated", "avif-animated", "tiff-pages"}  # whose first picture, all that is read, comes early


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_truncated(samples: dict[str, Path], part: float) -> None:
    for path in (path for name, path in samples.items() if name not in ONE_OF_MANY):
        content = path.read_bytes().rstrip(b"\0")  # which a JPEG may have after its end
        with pytest.raises(TruncatedImage):
            probe(io.BytesIO(content[: int(len(content) * part)]))


def test_one_missing_byte_is_noticed(samples: dict[str, Path]) -> None:
    for name in ("jpeg", "webp", "avif", "heic-alpha"):
        with pytest.raises(TruncatedImage):
            probe(io.BytesIO(samples[name].read_bytes()[:-1]))


def test_no_cut_passes_as_a_whole_file(samples: dict[str, Path]) -> None:
    after = {"png-palette": 13, "gif": 1}  # what stands after the pixels, and need not be there
    for name in ("jpeg-progressive", "png-palette", "webp-alpha", "gif", "avif-alpha"):
        content = samples[name].read_bytes()
        for length in range(1, len(content) - after.get(name, 0), 7):
            with pytest.raises((TruncatedImage, UnsupportedImage)):
                probe(io.BytesIO(content[:length]))


def test_empty_file() -> None:
    with pytest.raises(EmptyFile):
        probe(io.BytesIO())


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"BM" + bytes(60),
        b"RIFF\0\0\0\0WAVE",
        b"\xff\xd8",
    ],
)
def test_other_files_are_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        probe(io.BytesIO(content))


def _branded(content: bytes, major: bytes, *compatible: bytes) -> bytes:
    """An AVIF file under other brands."""
    (length,) = struct.unpack_from(">I", content)
    brands = b"".join(compatible).ljust(length - 16, b"\0")  # nothing moves: pixels are found by their place
    return struct.pack(">I4s4sI", length, b"ftyp", major, 0) + brands + content[length:]


@pytest.mark.parametrize("brands", [(b"avif",), (b"avis", b"msf1"), (b"mif1", b"miaf", b"avif"), (b"heic", b"avif")])
def test_every_avif_brand_is_read(samples: dict[str, Path], brands: tuple[bytes, ...]) -> None:
    content = _branded(samples["avif"].read_bytes(), *brands)
    assert probe(io.BytesIO(content)) == ImageHeader("avif", 160, 120)


def test_a_version_is_no_brand(samples: dict[str, Path]) -> None:
    content = _branded(samples["avif"].read_bytes(), b"isom", b"mp42")
    with pytest.raises(UnsupportedImage):
        probe(io.BytesIO(content[:12] + b"avif" + content[16:]))


def _box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


def _avif_of(*more: bytes) -> bytes:
    """An AVIF without pixels, with more boxes within its `meta`."""
    group = _box(b"ipma", bytes(4), struct.pack(">IHBB", 1, 1, 1, 1))
    size = _box(b"ipco", _box(b"ispe", struct.pack(">4xII", 160, 120)))
    main = _box(b"pitm", bytes(4), struct.pack(">H", 1))
    return _box(b"ftyp", b"avif", bytes(4)) + _box(b"meta", bytes(4), main, _box(b"iprp", size, group), *more)


@pytest.mark.parametrize("wide", [False, True], ids=["narrow fields", "wide fields"])
def test_the_size_is_that_of_the_main_image_and_not_of_its_preview(wide: bool) -> None:
    version = b"\x01\0\0\x01" if wide else bytes(4)
    item, index = (">I", ">BH") if wide else (">H", ">BB")
    essential = 0x8000 if wide else 0x80
    preview, main = (_box(b"ispe", struct.pack(">4xII", *size)) for size in ((40, 30), (160, 120)))
    belongings = [
        struct.pack(item, 2) + struct.pack(index, 1, 1),
        struct.pack(item, 1) + struct.pack(index, 1, essential | 2),
    ]
    meta = _box(
        b"meta",
        bytes(4),
        _box(b"pitm", version, struct.pack(item, 1)),
        _box(b"iprp", _box(b"ipco", preview, main), _box(b"ipma", version, struct.pack(">I", 2), *belongings)),
    )
    content = _box(b"ftyp", b"avif", bytes(4)) + meta
    assert probe(io.BytesIO(content)) == ImageHeader("avif", 160, 120)


@pytest.mark.parametrize("brands", [(b"heic",), (b"mif1", b"heix"), (b"msf1", b"hevc")])
def test_every_heic_brand_is_read(samples: dict[str, Path], brands: tuple[bytes, ...]) -> None:
    content = _branded(samples["heic"].read_bytes(), *brands)
    assert probe(io.BytesIO(content)) == ImageHeader("heic", 160, 120)


def test_other_box_files_are_unsupported(samples: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedImage, match="supported format"):
        probe(io.BytesIO(_branded(samples["avif"].read_bytes(), b"isom", b"mp42")))


def test_large_box_sizes_are_read(samples: dict[str, Path]) -> None:
    content = samples["avif"].read_bytes()
    (length,) = struct.unpack_from(">I", content)
    wide = struct.pack(">I4sQ", 1, b"ftyp", length + 8) + content[8:]
    assert probe(io.BytesIO(wide)).width == 160


def _with_frame(content: bytes, kind: int, precision: int = 8) -> io.BytesIO:
    """A JPEG whose frame header is of another kind."""
    return io.BytesIO(content.replace(b"\xff\xc0\x00\x11\x08", bytes([0xFF, kind, 0x00, 0x11, precision])))


@pytest.mark.parametrize("kind", [0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
def test_every_kind_of_jpeg_frame_that_can_be_decoded_is_read(samples: dict[str, Path], kind: int) -> None:
    assert probe(_with_frame(samples["jpeg"].read_bytes(), kind)) == ImageHeader("jpeg", 160, 120)


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF])
def test_other_kinds_of_jpeg_are_unsupported_and_not_damaged(samples: dict[str, Path], kind: int) -> None:
    with pytest.raises(UnsupportedImage, match=r"lossless|hierarchical"):
        probe(_with_frame(samples["jpeg"].read_bytes(), kind))


def test_a_jpeg_of_12_bits_is_unsupported_and_not_damaged(samples: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedImage, match="12 bits"):
        probe(_with_frame(samples["jpeg"].read_bytes(), 0xC1, precision=12))


def test_markers_without_a_length_are_passed_over(samples: dict[str, Path]) -> None:
    content = samples["jpeg"].read_bytes()
    assert probe(io.BytesIO(content[:2] + b"\xff\x01\xff\xd0" + content[2:])).width == 160


@pytest.mark.parametrize("before", range(4))
def test_the_end_is_found_wherever_it_lies(samples: dict[str, Path], before: int) -> None:
    """Also across two blocks of the search."""
    content = samples["jpeg"].read_bytes()
    header = content[: content.index(b"\xff\xda") + 2]
    probe(io.BytesIO(header + bytes(SEARCH_BLOCK - before) + b"\xff\xd9" + bytes(9)))


def test_a_webp_chunk_beyond_the_end_is_truncated(samples: dict[str, Path]) -> None:
    content = samples["webp"].read_bytes()
    longer = struct.pack("<I", len(content) - 20 + 100)
    with pytest.raises(TruncatedImage):
        probe(io.BytesIO(content[:16] + longer + content[20:] + bytes(1000)))


def test_the_end_of_an_embedded_preview_does_not_end_the_image(samples: dict[str, Path]) -> None:
    content = samples["jpeg"].read_bytes()
    preview = b"Exif\0\0" + b"\xff\xd8\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    with pytest.raises(TruncatedImage):
        probe(io.BytesIO(content[:2] + segment + content[2:-2]))


ZERO_SIDES = {
    "jpeg": (b"\x00\x11\x08\x00\x78", b"\x00\x11\x08\x00\x00"),
    "png": (b"IHDR\0\0\0\xa0", b"IHDR\0\0\0\0"),
    "webp": (b"\x9d\x01\x2a\xa0\0", b"\x9d\x01\x2a\0\0"),
    "tiff": (struct.pack("<HHII", 256, 4, 1, 160), struct.pack("<HHII", 256, 4, 1, 0)),
    "avif": (b"ispe\0\0\0\0\0\0\0\xa0", b"ispe\0\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("name", ZERO_SIDES)
def test_an_image_without_a_side_is_unsupported(samples: dict[str, Path], name: str) -> None:
    content = samples[name].read_bytes()
    found, replacement = ZERO_SIDES[name]
    assert found in content
    with pytest.raises(UnsupportedImage, match="empty"):
        probe(io.BytesIO(content.replace(found, replacement, 1)))


def test_a_gif_without_an_image_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="empty"):
        probe(io.BytesIO(b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";"))


@pytest.mark.parametrize("screen", [(0, 0), (10, 10), (640, 480), (3000, 3000), (0, 400), (200, 100), (96, 300)])
def test_the_size_of_a_gif_is_that_of_its_picture(samples: dict[str, Path], screen: tuple[int, int]) -> None:
    """Also where the screen that it announces is an odd one."""
    content = samples["gif-animated"].read_bytes()
    content = content[:6] + struct.pack("<HH", *screen) + content[10:]
    image = pyvips.Image.new_from_buffer(content, "")
    assert probe(io.BytesIO(content)) == ImageHeader("gif", image.width, image.height, 3)


def _tiff(*directories: bytes) -> bytes:
    return b"II*\0\x08\0\0\0" + b"".join(directories)


def _directory(following: int, *entries: tuple[int, int, int, int]) -> bytes:
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", following)


SIZE = ((256, 3, 1, 5), (257, 3, 1, 5))


def test_a_ring_of_tiff_pages_ends() -> None:
    assert probe(io.BytesIO(_tiff(_directory(8, *SIZE)))) == ImageHeader("tiff", 5, 5)


@pytest.mark.parametrize(
    "entries",
    [
        ((273, 4, 1, 10), (279, 4, 1, 1_000_000)),  # a strip that is longer than the file
        ((324, 4, 1, 1_000_000), (325, 4, 1, 1)),  # a tile behind its end
        ((273, 4, 1, 1_000_000),),  # without a length
        ((273, 4, 5_000, 40),),  # a table that is longer than the file
    ],
)
def test_tiff_pixels_beyond_the_end_are_truncated(entries: tuple[tuple[int, int, int, int], ...]) -> None:
    with pytest.raises(TruncatedImage):
        probe(io.BytesIO(_tiff(_directory(0, *SIZE, *entries))))


def test_a_tiff_directory_beyond_the_end_is_truncated() -> None:
    with pytest.raises(TruncatedImage):
        probe(io.BytesIO(b"II*\0" + struct.pack("<I", 5_000) + _directory(0, *SIZE)))


def test_a_later_tiff_directory_beyond_the_end_is_not_missed() -> None:
    assert probe(io.BytesIO(_tiff(_directory(5_000, *SIZE)))) == ImageHeader("tiff", 5, 5)


def _gif_of(blocks: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + blocks + b";"


GIF_IMAGE = b"," + bytes(9) + b"\x08"
ENDLESS: dict[str, Callable[[int], bytes]] = {  # made of a share of the parts
    "GIF blocks": lambda share: _gif_of(GIF_IMAGE + b"\x01a" * (3_000_000 // share) + b"\0"),
    "GIF frames": lambda share: _gif_of((GIF_IMAGE + b"\0") * (400_000 // share)),
    "JPEG segments": lambda share: b"\xff\xd8" + b"\xff\xfe\0\x02" * (1_000_000 // share),
    "JPEG fill bytes": lambda share: b"\xff\xd8" + b"\xff" * (3_000_000 // share),
    "PNG chunks": lambda share: (
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01" + bytes(9) + bytes(12) * (1_000_000 // share)
    ),
    "WebP chunks": lambda share: (
        b"RIFF" + struct.pack("<I", 4 + 8_000_000 // share) + b"WEBP" + b"JUNK\0\0\0\0" * (1_000_000 // share)
    ),
    "AVIF boxes": lambda _: b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 30_000,
    "AVIF references": lambda _: _avif_of(
        _box(
            b"iref",
            bytes(4),
            *(_box(b"dimg", struct.pack(">HHH", 1 + at % 60_000, 1, 2 + at % 60_000)) for at in range(30_000)),
        )
    ),
    "AVIF extents": lambda _: _avif_of(_box(b"iloc", b"\2\0\0\0\0\0" + struct.pack(">I", 300_000), bytes(3_000_000))),
    "TIFF pages": lambda share: _tiff(*(_directory(8 + 30 * page, *SIZE) for page in range(1, 200_000 // share))),
    "TIFF entries": lambda share: _tiff(
        *(_directory(8 + (24 * (30_000 // share) + 6) * page, *SIZE * (30_000 // share)) for page in range(1, 12))
    ),
    "TIFF strips": lambda _: _tiff(_directory(0, *SIZE, (273, 4, 600_000, 8)), bytes(2_400_000)),
}


@pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", ENDLESS)
def test_no_file_keeps_the_reader_busy(name: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO(ENDLESS[name](share))
    monkeypatch.setattr(reader, "MAX_STEPS", reader.MAX_STEPS // share)
    start = time.process_time()
    with pytest.raises(UnsupportedImage, match="more parts"):
        probe(file)
    assert time.process_time() - start < SLOWEST


def test_a_hundred_thousand_frames_are_counted() -> None:
    assert probe(io.BytesIO(_gif_of((GIF_IMAGE + b"\0") * 100_000))).frames == 100_000


class CountingFile(io.BytesIO):
    """A file that knows how much of it was read."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def test_large_files_are_walked_and_not_read(samples: dict[str, Path]) -> None:
    png = samples["png"].read_bytes()
    data = bytes(20_000_000)
    file = CountingFile(png[:33] + struct.pack(">I4s", len(data), b"IDAT") + data + bytes(4) + png[-12:])
    probe(file)
    assert file.bytes_read < 100_000


def test_the_api_process_loads_no_codec() -> None:
    code = "import sys, app.imaging.probe; sys.exit(any(name in sys.modules for name in ('pyvips', '_libvips', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _probe_calmly(content: bytes) -> None:
    start = time.process_time()
    with suppress(EmptyFile, TruncatedImage, UnsupportedImage):
        assert isinstance(probe(io.BytesIO(content)), ImageHeader)
    assert time.process_time() - start < SLOWEST


@settings(max_examples=sampled(400))
@given(prefix=st.sampled_from((b"", *SOUND_PREFIXES)), content=st.binary(max_size=400))
def test_random_bytes(prefix: bytes, content: bytes) -> None:
    _probe_calmly(prefix + content)


@settings(max_examples=sampled(800))
@given(data=st.data())
def test_damaged_files(samples: dict[str, Path], data: st.DataObject) -> None:
    """Sound files with some bytes overwritten, left out or cut off; mostly near the start, where the structure is."""
    content = bytearray(samples[data.draw(st.sampled_from(sorted(samples)))].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        near = st.integers(0, min(400, len(content)))
        at = data.draw(near | st.integers(0, len(content)))
        patch = data.draw(st.binary(max_size=8) | st.sampled_from((b"\xff" * 4, b"\0" * 8, b"\xff" * 8)))
        content[at : at + data.draw(st.sampled_from((0, len(patch), 20)))] = patch
    _probe_calmly(bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]))
