"""What leaves with an image, and what is reported about it: place, serial number and thumbnail only when asked for."""

import io
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, IptcImagePlugin

from app.imaging.colours.icc import description
from app.imaging.metadata import gain_map
from app.imaging.metadata.describe import _without_places
from app.imaging.metadata.exif import place, read_exif
from app.imaging.metadata.iptc import read_iptc, unwrapped
from app.imaging.metadata.origin import Origin
from app.imaging.metadata.xmp import read_xmp
from app.imaging.pipeline import INTERMEDIATE, Limits, Stage, Target, render
from app.imaging.recipe import Monitor
from app.operations import ENCODERS
from tests.imaging.conftest import GOLDEN, GPS, ORIENTATION, Pixels, encoded, in_turn, photograph, pixels
from tests.support.sampling import WHOLE

LIMITS = Limits(pixels=1_000_000, side=4000)
SERIAL, PLACE, HOME = b"SERIAL-4711", b"55,45.123N", b"At home"  # in EXIF, XMP and IPTC
PHOTO_TAGS, MAKE, ARTIST, COPYRIGHT = 0x8769, 0x010F, 0x013B, 0x8298
EXPOSURE_TIME, ISO, TAKEN, BODY_SERIAL, LENS = 0x829A, 0x8827, 0x9003, 0xA431, 0xA434

XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 exif:GPSLatitude="55,45.123N" aux:SerialNumber="SERIAL-4711" tiff:Orientation="6">
<dc:creator><rdf:Seq><rdf:li>Ann &amp; Bob</rdf:li></rdf:Seq></dc:creator>
<dc:title><rdf:Alt><rdf:li xml:lang="de">Hafen</rdf:li><rdf:li xml:lang="x-default">Harbour</rdf:li></rdf:Alt>
</dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def _exif() -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = 6
    data[MAKE], data[ARTIST], data[COPYRIGHT] = "Maker (x)", "Ann & Bob", "(c) Ann, Bob"
    data.get_ifd(PHOTO_TAGS).update(
        {EXPOSURE_TIME: 0.004, ISO: 400, TAKEN: "2026:01:02 03:04:05", BODY_SERIAL: SERIAL.decode(), LENS: "50mm"}
    )
    data.get_ifd(GPS).update({1: "N", 2: (55.0, 45.0, 7.38), 3: "W", 4: (12.0, 30.0, 0.0), 5: b"\0", 6: 35.5})
    return data


def _iptc() -> bytes:
    records = [(5, b"Harbour"), (25, b"boats"), (25, b"sea"), (92, HOME), (116, b"(c) Ann, Bob")]
    iim = b"\x1c\x01\x5a\x00\x03\x1b%G" + b"".join(
        b"\x1c\x02" + bytes([number]) + len(value).to_bytes(2) + value for number, value in records
    )
    return b"8BIM\x04\x04\0\0" + len(iim).to_bytes(4) + iim + b"\0" * (len(iim) % 2)


def _with_iptc(jpeg: bytes) -> bytes:
    block = b"Photoshop 3.0\0" + _iptc()
    return jpeg[:2] + b"\xff\xed" + (len(block) + 2).to_bytes(2) + block + jpeg[2:]


@pytest.fixture(scope="module")
def revealing(tmp_path_factory: pytest.TempPathFactory, photo: Pixels, display_p3: bytes) -> dict[str, Path]:
    """One file of each format that says all that it can say."""
    folder, image = tmp_path_factory.mktemp("revealing"), Image.fromarray(photo)
    exif: dict[str, Any] = {"exif": _exif(), "icc_profile": display_p3}
    tiff_tags = {ORIENTATION: 1, ARTIST: "Ann & Bob", COPYRIGHT: "(c) Ann, Bob", 33723: _iptc()[12:], 700: XMP}
    gif = pyvips.Image.new_from_array(photo).copy(interpretation="srgb")
    files = {
        "jpeg": _with_iptc(encoded(image, "JPEG", quality=95, xmp=XMP, **exif)),
        "png": encoded(image, "PNG", **exif),
        "webp": encoded(image, "WEBP", quality=95, xmp=XMP, **exif),
        "avif": encoded(image, "AVIF", quality=95, xmp=XMP, **exif),
        "tiff": encoded(image, "TIFF", tiffinfo=tiff_tags, icc_profile=display_p3),
        "gif": bytes(gif.gifsave_buffer()),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def _write(source: Path, op: str, folder: Path, *, by_intermediate: bool = False, **params: Any) -> Path:
    if by_intermediate:
        [_] = render(source, [Stage("flip", {})], [Target(folder / "source.between", INTERMEDIATE, {})], LIMITS)
        source = folder / "source.between"
    target = Target(folder / f"result-{op}", op, params)
    render(source, [Stage(op, params)], [target], LIMITS)
    return target.path


def _found(path: Path) -> dict[str, Any]:
    """What an independent reader finds in a file."""
    with Image.open(path) as image:
        exif = image.getexif()
        xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
        iptc = IptcImagePlugin.getiptcinfo(image) if image.format in {"JPEG", "TIFF"} else None
        if image.format == "TIFF":
            xmp = image.tag_v2.get(700, b"")
        return {
            "gps": dict(exif.get_ifd(GPS)),
            "serial": exif.get_ifd(PHOTO_TAGS).get(BODY_SERIAL),
            "artist": exif.get(ARTIST),
            "copyright": exif.get(COPYRIGHT),
            "make": exif.get(MAKE),
            "orientation": exif.get(ORIENTATION, 1),
            "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
            "iptc": iptc,
            "icc": image.info.get("icc_profile"),
        }


OPS = [operation.name for operation in ENCODERS.values()]
KEEPING = [operation.name for operation in ENCODERS.values() if "keep_metadata" in operation.params.model_fields]
BY_INTERMEDIATE = [(False,), (True,)]
SOURCES = ["jpeg", "png", "webp", "avif", "tiff", "gif"]


def test_every_sample_reveals_something(revealing: dict[str, Path]) -> None:
    for name in ("jpeg", "png", "webp", "avif"):
        found = _found(revealing[name])
        assert found["gps"], name
        assert found["serial"] == SERIAL.decode(), name
        assert found["icc"], name
    for name in ("jpeg", "webp", "avif", "tiff"):
        assert PLACE in _found(revealing[name])["xmp"], name
    assert HOME in revealing["jpeg"].read_bytes()


@pytest.mark.parametrize(
    ("name", "op", "keep", "by_intermediate"),
    in_turn(SOURCES, OPS, list(product(["none", "copyright", "icc"], [False, True]))),
)
def test_place_and_serial_number_stay_here(
    revealing: dict[str, Path], tmp_path: Path, name: str, op: str, keep: str, by_intermediate: bool
) -> None:
    params = {"keep_metadata": keep} if op != "convert_gif" else {"effort": 1}
    path = _write(revealing[name], op, tmp_path, by_intermediate=by_intermediate, **params)
    content, found = path.read_bytes(), _found(path)
    for secret in (SERIAL, PLACE, HOME, b"Maker", b"2026:01:02"):
        assert secret not in content
    assert (found["gps"], found["serial"], found["make"], found["iptc"]) == ({}, None, None, None)
    assert found["orientation"] == 1
    if keep != "icc":
        assert not found["icc"]


@pytest.mark.parametrize(
    ("name", "op", "by_intermediate"), in_turn(["jpeg", "png", "webp", "avif", "tiff"], KEEPING, BY_INTERMEDIATE)
)
def test_the_copyright_is_kept_on_request(
    revealing: dict[str, Path], tmp_path: Path, name: str, op: str, by_intermediate: bool
) -> None:
    path = _write(revealing[name], op, tmp_path, by_intermediate=by_intermediate, keep_metadata="copyright")
    found = _found(path)
    kept = read_xmp(found["xmp"])
    assert kept["dc:creator"] == ["Ann & Bob"]
    if name != "tiff":  # libvips reads no EXIF of TIFF; what XMP and IPTC say is kept
        assert kept["dc:rights"] == "(c) Ann, Bob"
        if op != "convert_tiff":
            assert (found["artist"], found["copyright"]) == ("Ann & Bob", "(c) Ann, Bob")


@pytest.mark.parametrize(("name", "op", "by_intermediate"), in_turn(["jpeg", "webp", "avif"], KEEPING, BY_INTERMEDIATE))
def test_all_is_everything(
    revealing: dict[str, Path], tmp_path: Path, name: str, op: str, by_intermediate: bool
) -> None:
    found = _found(_write(revealing[name], op, tmp_path, by_intermediate=by_intermediate, keep_metadata="all"))
    assert found["icc"]
    assert PLACE in found["xmp"]
    assert b'tiff:Orientation="1"' in found["xmp"]
    if op != "convert_tiff":
        assert found["gps"][2] == (55.0, 45.0, 7.38)
        assert (found["serial"], found["make"], found["orientation"]) == (SERIAL.decode(), "Maker (x)", 1)
    if name == "jpeg" and op in {"convert_jpeg", "convert_tiff"}:
        assert found["iptc"][2, 92] == HOME


@pytest.mark.parametrize("op", KEEPING)
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "tiff"])
def test_wide_colours_stay_with_their_profile(revealing: dict[str, Path], tmp_path: Path, name: str, op: str) -> None:
    exact = {"quality": 100} if op in {"convert_jpeg", "convert_webp", "convert_avif"} else {}
    path = _write(revealing[name], op, tmp_path, keep_metadata="icc", **exact)
    assert "P3" in str(description(_found(path)["icc"]))
    with Image.open(revealing[name]) as image:
        stored = np.asarray(image.convert("RGB"))
    if name != "tiff":
        stored = np.rot90(stored, -1)
    difference = abs(pixels(path, "RGB").astype(int) - stored)
    assert difference.mean() < 3  # the numbers of the source, and none of sRGB


def test_a_colour_that_is_asked_for_looks_the_same_in_wide_colours(
    revealing: dict[str, Path], tmp_path: Path, display_p3: bytes
) -> None:
    """A red of sRGB is a paler red of Display P3."""
    stage = Stage("resize", {"width": 200, "height": 200, "fit": "contain", "background": "#ff0000"})
    for keep, red in (("icc", (234, 51, 35)), ("none", (255, 0, 0))):
        target = Target(tmp_path / keep, "convert_png", {"keep_metadata": keep})
        render(revealing["jpeg"], [stage], [target], LIMITS)
        assert np.abs(pixels(target.path, "RGB")[0, 0].astype(int) - red).max() <= 2, keep


def _described(path: Path, folder: Path, *stages: Stage, **params: Any) -> dict[str, Any]:
    target = Target(folder / "metadata", "metadata", params)
    [rendered] = render(path, [*stages, Stage("metadata", params)], [target], LIMITS)
    assert rendered.format == "json"
    described: dict[str, Any] = json.loads(target.path.read_text())
    return described


def test_metadata_tells_what_the_file_says(revealing: dict[str, Path], tmp_path: Path) -> None:
    found = _described(revealing["jpeg"], tmp_path)
    assert (found["format"], found["width"], found["height"], found["frames"]) == ("jpeg", 120, 160, 1)
    assert found["exif"]["image"]["Make"] == "Maker (x)"
    photo = found["exif"]["photo"]
    assert (photo["ExposureTime"], photo["ISOSpeedRatings"], photo["LensModel"]) == (0.004, 400, "50mm")
    assert photo["DateTimeOriginal"] == "2026-01-02 03:04:05"
    assert found["iptc"]["keywords"] == ["boats", "sea"]
    assert found["xmp"]["dc:title"] == "Harbour"
    assert found["xmp"]["dc:creator"] == ["Ann & Bob"]
    assert found["icc_profile"]


def test_golden(revealing: dict[str, Path], tmp_path: Path) -> None:
    golden = GOLDEN / "metadata.json"
    found = _described(revealing["jpeg"], tmp_path, gps=True)
    if os.environ.get("PIXTOOLS_WRITE_GOLDEN"):
        golden.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(golden.read_text())


def test_metadata_tells_a_place_only_when_asked(revealing: dict[str, Path], tmp_path: Path) -> None:
    silent = json.dumps(_described(revealing["jpeg"], tmp_path))
    assert "GPS" not in silent
    assert PLACE.decode() not in silent
    assert HOME.decode() not in silent
    asked = _described(revealing["jpeg"], tmp_path, gps=True)
    assert asked["gps"]["latitude"] == pytest.approx(55.75205)
    assert asked["gps"]["longitude"] == -12.5
    assert asked["gps"]["altitude"] == 35.5
    assert asked["xmp"]["exif:GPSLatitude"] == PLACE.decode()


def test_metadata_is_that_of_the_upload_and_the_size_that_of_the_pixels(
    revealing: dict[str, Path], tmp_path: Path
) -> None:
    found = _described(revealing["jpeg"], tmp_path, Stage("resize", {"width": 60}))
    assert (found["format"], found["width"], found["height"]) == ("jpeg", 60, 80)
    assert found["exif"]["image"]["Make"] == "Maker (x)"


def test_dominant_colours_add_up_and_are_those_of_the_picture(tmp_path: Path) -> None:
    picture = np.full((90, 120, 3), (200, 30, 30), np.uint8)
    picture[:30] = (20, 40, 220)
    (tmp_path / "source").write_bytes(encoded(Image.fromarray(picture), "PNG"))
    colours = _described(tmp_path / "source", tmp_path, colours=2)["dominant_colours"]
    assert [colour["share"] for colour in colours] == pytest.approx([2 / 3, 1 / 3], abs=0.03)
    for found, expected in zip(colours, [(200, 30, 30), (20, 40, 220)], strict=True):
        assert np.abs(np.frombuffer(bytes.fromhex(found["colour"][1:]), np.uint8).astype(int) - expected).max() < 12
    assert _described(tmp_path / "source", tmp_path, colours=0)["dominant_colours"] == []


def test_the_blurhash_looks_like_the_picture(tmp_path: Path) -> None:
    import blurhash

    picture = photograph(200, 150)
    (tmp_path / "source").write_bytes(encoded(Image.fromarray(picture), "PNG"))
    hashed = _described(tmp_path / "source", tmp_path)["blurhash"]
    shown = np.array(blurhash.decode(hashed, 20, 15))
    coarse = Image.fromarray(picture).resize((4, 3), Image.Resampling.BOX).resize((20, 15), Image.Resampling.BICUBIC)
    assert np.corrcoef(shown.ravel(), np.asarray(coarse).ravel())[0, 1] > 0.85


@pytest.mark.parametrize("name", ["jpeg-grey", "png-grey-16", "png-alpha", "png-grey-alpha", "jpeg-cmyk", "tiff-pages"])
def test_every_kind_of_picture_can_be_described(samples: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = _described(samples[name], tmp_path)
    assert len(found["blurhash"]) == 28
    assert found["dominant_colours"]
    assert found["alpha"] == name.endswith("alpha")
    assert found["bits"] == (16 if name.endswith("16") else 8)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_the_smallest_pictures_can_be_described(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "source").write_bytes(encoded(Image.new("RGB", size, (9, 99, 199)), "PNG"))
    assert _described(tmp_path / "source", tmp_path)["dominant_colours"]


@pytest.mark.slow
def test_damaged_metadata_is_none() -> None:
    block = _exif().tobytes()
    for read, whole in ((read_exif, block), (read_iptc, unwrapped(_iptc())), (read_xmp, XMP)):
        assert read(whole)
        for length in range(0, len(whole), 7 if WHOLE else 61):
            read(whole[:length])
            read(whole[:length] + b"\xff" * (len(whole) - length))
        assert read(b"") == {}


def test_an_entity_bomb_in_xmp_is_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + XMP.replace(b"Ann", b"&b;")
    assert read_xmp(bomb) == {}


def test_no_place_without_degrees() -> None:
    assert place({"GPSLatitude": [1], "GPSLongitude": "x"}) == {}
    assert place({}) == {}


def test_names_of_profiles(display_p3: bytes) -> None:
    assert "P3" in str(description(display_p3))
    for length in range(0, len(display_p3), 5):
        description(display_p3[:length])


@pytest.mark.parametrize(
    "value", [None, 7, [], {}, [{"a": 1}], [1, 2], {"x": ["y"]}, "A\x01B\x0b", "x" * 9000, "\ud800"]
)
def test_a_copyright_of_any_kind_is_written_or_left_out(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.imaging.metadata.origin.read_xmp", lambda _: {"dc:rights": value, "dc:creator": value})
    origin = Origin.model_construct(format="jpeg", blocks={})
    image = origin.onto(pyvips.Image.black(9, 9), "copyright", "jpeg")
    written = read_xmp(image.get("xmp-data")) if image.get_typeof("xmp-data") else {}
    assert written.get("dc:rights") in {None, "AB", "x" * 500}


def test_blocks_that_no_camera_writes_stay_here(tmp_path: Path, photo: Pixels) -> None:
    huge = XMP.replace(b"Harbour", b"x" * 2_000_000)
    (tmp_path / "source").write_bytes(encoded(Image.fromarray(photo), "WEBP", xmp=huge))
    path = _write(tmp_path / "source", "convert_webp", tmp_path, by_intermediate=True, keep_metadata="all")
    assert _found(path)["xmp"] == b""


def test_claims_are_found_in_time() -> None:
    for hostile in (b"<hdrgm:a " * 100_000, b"<Container:Directory" * 50_000, b' hdrgm:a="' * 100_000):
        gain_map.unclaimed(hostile)


@pytest.mark.parametrize(
    "name",
    [
        "exif:GPSLatitude",
        "http://www.dji.com/drone-dji/1.0/GpsLatitude",
        "http://www.w3.org/2003/01/geo/wgs84_pos#lat",
        "http://www.w3.org/2003/01/geo/wgs84_pos#long",
        "Iptc4xmpCore:Location",
        "Iptc4xmpExt:LocationShown",
        "sublocation",
    ],
)
def test_places_are_known_by_any_name(name: str) -> None:
    assert _without_places({name: "1", "dc:title": {"a": [{name: 2}]}}) == {"dc:title": {"a": [{}]}}
    assert _without_places({"xmp:Rating": 5, "photoshop:Credit": "x"}) == {"xmp:Rating": 5, "photoshop:Credit": "x"}


def test_an_upload_that_forges_the_description_of_an_intermediate_is_an_ordinary_image(
    tmp_path: Path, photo: Pixels
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "TIFF", tiffinfo={270: 'PixTools/1 {"format": 7}'})
    (tmp_path / "source").write_bytes(buffer.getvalue())
    assert _described(tmp_path / "source", tmp_path)["format"] == "tiff"


def _ultra_hdr(photo: Pixels) -> bytes:
    """A JPEG with a gain map, as libvips makes it of light above white."""
    light = pyvips.Image.new_from_array(photo).copy(interpretation="srgb").colourspace("scrgb") * 2.5
    return bytes(light.copy(interpretation="scrgb").uhdrsave_buffer())


@pytest.mark.parametrize("keep", ["none", "all"])
def test_a_gain_map_is_dropped_and_the_step_says_so(tmp_path: Path, photo: Pixels, keep: str) -> None:
    content = _ultra_hdr(photo)
    assert any(mark in content for mark in gain_map.MARKS)
    (tmp_path / "source").write_bytes(content)
    monitor = Monitor()
    target = Target(tmp_path / "result", "convert_jpeg", {"keep_metadata": keep})
    render(tmp_path / "source", [Stage("convert_jpeg", {})], [target], LIMITS, monitor)
    assert monitor.reports[0]["lost"]["gain_map"] == {"reason": "stale"}
    assert "sub_images" not in monitor.reports[0]["lost"]  # the gain map is the only one
    assert not any(mark in target.path.read_bytes() for mark in gain_map.MARKS)
    assert _described(tmp_path / "source", tmp_path)["gain_map"]


def test_xmp_claims_no_gain_map_that_is_gone() -> None:
    claim = b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" tiff:Orientation="6">'
    directory = b"<Container:Directory><rdf:Seq><rdf:li>x</rdf:li></rdf:Seq></Container:Directory>"
    xmp = XMP.replace(b' tiff:Orientation="6">', claim + directory)
    kept = gain_map.unclaimed(xmp)
    assert b"hdrgm:Version" not in kept
    assert b"Container:Directory" not in kept
    assert read_xmp(kept)["dc:title"] == "Harbour"
