"""Nothing leaves that was not asked for, and no picture of the original: judged by exiftool."""

import base64
import io
import random
import re
import struct
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.imaging.metadata.iptc import unwrapped, wrapped
from app.imaging.metadata.previews import without_previews
from app.imaging.pipeline import INTERMEDIATE, Limits, Stage, Target, render
from app.operations import ENCODERS, OPERATIONS, Queue
from tests.imaging.conftest import encoded
from tests.support.exiftool import exiftool
from tests.support.sampling import sampled

LIMITS = Limits(pixels=1_000_000, side=4000)
KEEPS = ("none", "copyright", "icc", "all")
DENSITY = 300  # dots per inch of every source
PURPLE = encoded(Image.new("RGB", (16, 12), "purple"), "JPEG")  # shows what the picture does not
MAKER_NOTE = b"Maker\0\0\0" + PURPLE

STAGES = {
    operation.name: operation.example
    for operation in OPERATIONS.values()
    if operation.format is None and operation.queue is Queue.DEFAULT
} | {"crop": {"width": 8, "height": 8}}

#: groups of exiftool that say how the pixels are stored
STRUCTURE = {"SourceFile", "ExifTool", "System", "File", "Composite", "PNG", "RIFF", "GIF", "QuickTime", "Meta", "JFIF"}
STRUCTURE |= {"PNG-pHYs", "Track1"}
#: what libvips writes into each block of EXIF, and what every TIFF has
SKELETON = {
    *("Orientation", "XResolution", "YResolution", "ResolutionUnit", "ExifVersion", "FlashpixVersion", "ColorSpace"),
    *("ExifImageWidth", "ExifImageHeight", "YCbCrPositioning", "ComponentsConfiguration"),
    *("ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets"),
    *("SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "PlanarConfiguration", "SampleFormat", "Predictor"),
    *("ExtraSamples", "XMPToolkit", "SubfileType", "OldSubfileType"),
}
RIGHTS = {"Artist", "Copyright", "Creator", "Rights"}
PICTURES = re.compile("thumbnail|preview|otherimage|jpgfromraw|mpimage|gainmap", re.IGNORECASE)


def _exif() -> bytes:
    """Artist, copyright, a maker's note with a picture, a place and a thumbnail."""
    texts = {0x013B: b"Ann\0\0\0\0\0", 0x8298: b"(c) Ann\0"}
    first_length = 2 + 12 * 6 + 4
    data_at, data = 8 + first_length, b""
    entries = []
    for tag, text in texts.items():
        entries.append((tag, 2, len(text), struct.pack("<I", data_at + len(data))))
        data += text
    for tag in (0x011A, 0x011B):
        entries.append((tag, 5, 1, struct.pack("<I", data_at + len(data))))
        data += struct.pack("<II", DENSITY, 1)
    entries.append((0x0128, 3, 1, struct.pack("<HH", 2, 0)))
    photo_at = data_at + len(data)
    note_at = photo_at + 2 + 12 + 4
    photo = struct.pack("<HHHIII", 1, 0x927C, 7, len(MAKER_NOTE), note_at, 0) + MAKER_NOTE
    entries.append((0x8769, 4, 1, struct.pack("<I", photo_at)))
    second_at = photo_at + len(photo)
    thumbnail_at = second_at + 2 + 12 * 3 + 4
    second = struct.pack("<HHHIHH", 3, 0x0103, 3, 1, 6, 0)
    second += struct.pack("<HHIIHHIII", 0x0201, 4, 1, thumbnail_at, 0x0202, 4, 1, len(PURPLE), 0)
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in sorted(entries))
    first = struct.pack("<H", 6) + table + struct.pack("<I", second_at)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + data + photo + second + PURPLE


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:GImage="http://ns.google.com/photos/1.0/image/"
 xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 photoshop:City="Home" GImage:Data="%(picture)s"><xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource">
<xmpGImg:format>JPEG</xmpGImg:format><xmpGImg:image>%(picture)s</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>""" % {b"picture": base64.b64encode(PURPLE)}
RECORDS = b"\x1c\x02\x5a\x00\x04Home" + b"\x1c\x02\xca" + len(PURPLE).to_bytes(2) + PURPLE


def _photoshop() -> bytes:
    thumbnail = b"8BIM\x04\x0c\0\0" + (28 + len(PURPLE)).to_bytes(4) + bytes(28) + PURPLE
    return wrapped(RECORDS) + thumbnail


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, display_p3: bytes) -> dict[str, Path]:
    """Green pictures that hold a purple one wherever they can."""
    folder, green = tmp_path_factory.mktemp("sources"), Image.new("RGB", (64, 48), "green")
    said: dict[str, Any] = {"exif": _exif(), "icc_profile": display_p3, "dpi": (DENSITY, DENSITY)}
    jpeg = encoded(green, "JPEG", xmp=XMP, **said)
    files = {
        "jpeg": jpeg[:2] + b"\xff\xed" + (len(_photoshop()) + 2).to_bytes(2) + _photoshop() + jpeg[2:],
        "png": encoded(green, "PNG", **said),
        "webp": encoded(green, "WEBP", xmp=XMP, **said),
        "avif": encoded(green, "AVIF", xmp=XMP, **said),
        "tiff": encoded(
            green, "TIFF", tiffinfo={33723: RECORDS, 700: XMP, 34377: _photoshop()}, dpi=(DENSITY, DENSITY)
        ),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def _tags(read: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Group, name and value."""
    return [(*key.rpartition(":")[::2], value) for key, value in read.items()]


def _unasked(read: dict[str, Any], keep: str) -> list[str]:
    """What is there although it was not asked for."""
    allowed = SKELETON | (RIGHTS if keep == "copyright" else set())
    groups = STRUCTURE | ({"ICC_Profile", "ICC-header", "ICC-view", "ICC-meas"} if keep == "icc" else set())
    tags = [(group, name) for group, name, _ in _tags(read) if group and group not in groups]
    return [f"{group}:{name}" for group, name in tags if name not in allowed]


def _densities(read: dict[str, Any]) -> set[int]:
    """In dots per inch."""
    inches = {"XResolution": 1, "YResolution": 1, "PixelsPerUnitX": 0.0254, "PixelsPerUnitY": 0.0254}
    per_centimetre = read.get("IFD0:ResolutionUnit") == 3
    return {
        round(value * (2.54 if per_centimetre and name.endswith("Resolution") else inches[name]))
        for _, name, value in _tags(read)
        if name in inches
    }


PRODUCT = list(product(["jpeg", "png", "webp", "avif", "tiff"], ["", *STAGES], sorted(ENCODERS), KEEPS, [False, True]))


def _rendered(sources: dict[str, Path], folder: Path, number: int, case: tuple[str, str, str, str, bool]) -> Path:
    name, op, format_, keep, by_intermediate = case
    encoder, source = ENCODERS[format_], sources[name]
    params = {"keep_metadata": keep} if "keep_metadata" in encoder.params.model_fields else {}
    if by_intermediate:
        source = folder / f"{number}.between"
        render(sources[name], [Stage("flip", {})], [Target(source, INTERMEDIATE, {})], LIMITS)
    stages = [Stage(op, STAGES[op])] if op else []
    target = Target(folder / f"{number}.{format_}", encoder.name, params)
    render(source, [*stages, Stage(encoder.name, params)], [target], LIMITS)
    return target.path


def _judge(sources: dict[str, Path], folder: Path, cases: list[tuple[str, str, str, str, bool]]) -> None:
    paths = [_rendered(sources, folder, number, case) for number, case in enumerate(cases)]
    for case, path, read in zip(cases, paths, exiftool(*paths), strict=True):
        keep, content = case[3], path.read_bytes()
        assert content.find(b"\xff\xd8\xff", 3) == -1, case
        assert base64.b64encode(PURPLE)[:40] not in content, case
        assert not [name for _, name, _ in _tags(read) if PICTURES.search(name)], case
        if keep != "all":
            assert _unasked(read, keep) == [], case
        assert _densities(read) <= {DENSITY if keep == "all" else 72}, case


def test_the_sources_hold_what_must_not_leave(sources: dict[str, Path]) -> None:
    for name, read in zip(sources, exiftool(*sources.values()), strict=True):
        assert any(PICTURES.search(tag) for _, tag, _ in _tags(read)), name
        assert sources[name].read_bytes().count(b"\xff\xd8\xff") >= 1, name


@pytest.mark.slow
def test_nothing_leaves_that_nobody_asked_for(sources: dict[str, Path], tmp_path: Path) -> None:
    _judge(sources, tmp_path, random.Random(15).sample(PRODUCT, 30))


@pytest.mark.full
@pytest.mark.parametrize("part", range(20))
def test_nothing_leaves_whatever_is_done(sources: dict[str, Path], tmp_path: Path, part: int) -> None:
    _judge(sources, tmp_path, PRODUCT[part::20])


def test_all_keeps_what_is_no_picture(sources: dict[str, Path], tmp_path: Path) -> None:
    formats = ("jpeg", "png", "webp", "avif")
    paths = [_rendered(sources, tmp_path, 0, ("jpeg", "crop", format_, "all", False)) for format_ in formats]
    for format_, read in zip(formats, exiftool(*paths), strict=True):
        assert (read["IFD0:Artist"], read["XMP-photoshop:City"]) == ("Ann", "Home"), format_
        if format_ == "jpeg":
            assert read["IPTC:City"] == "Home"


def test_records_end_where_their_length_says() -> None:
    assert unwrapped(_photoshop()) == RECORDS


def test_hostile_blocks_are_cleaned_in_time_or_dropped() -> None:
    rng = random.Random(3)
    whole = {"exif-data": _exif(), "xmp-data": XMP, "iptc-data": RECORDS}
    for name, block in whole.items():
        for _ in range(sampled(150)):
            damaged = bytearray(block)
            for _ in range(rng.randint(1, 6)):
                damaged[rng.randrange(min(len(block), 300))] = rng.randrange(256)
            without_previews(name, bytes(damaged))
    for hostile in (b"<xmp:Thumbnails " * 60_000, b"/9j/" * 250_000, b"<xmp:Thumbnails></xmp:Thumbnails>" * 30_000):
        without_previews("xmp-data", hostile)
    directory = struct.pack("<H", 1000) + struct.pack("<HHII", 1, 7, 1_000_000, 0) * 1000
    without_previews("exif-data", b"II*\0\x08\0\0\0" + directory + b"\xff\xd8\xff" * 300_000)


def test_a_still_gif_has_no_loop(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for count, loops in ((1, 0), (3, 1)):
        buffer = io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:count], loop=0, duration=50)
        (tmp_path / "source").write_bytes(
            buffer.getvalue().replace(b"!\xf9", b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0!\xf9", 1)
        )
        target = Target(tmp_path / "result", "convert_gif", {})
        render(tmp_path / "source", [], [target], LIMITS)
        assert target.path.read_bytes().count(b"NETSCAPE2.0") == loops
