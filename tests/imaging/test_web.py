"""A web page's set: files, manifest, markup and placeholders of one image."""

import base64
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import blurhash
import numpy as np
import pytest
from PIL import Image

from app.errors import TargetUnreachable
from app.imaging import pipeline
from app.imaging.pipeline import Limits, Rendered, Stage, Target, render
from app.imaging.recipe import Monitor, Part
from app.imaging.responsive import thumbhash
from app.imaging.responsive.placeholders import contrast
from tests.imaging.conftest import Pixels, as_image, encoded, exif, photograph, pixels, similarity

LIMITS = Limits(pixels=4_000_000, side=4000)
BOTH = ["manifest.json", "picture.html"]


@pytest.fixture(scope="module")
def large() -> Pixels:
    return photograph(800, 600)


@pytest.fixture
def source(tmp_path: Path, large: Pixels) -> Path:
    path = tmp_path / "source.jpg"
    path.write_bytes(encoded(Image.fromarray(large), "JPEG", quality=92))
    return path


class _Made:
    """A set as it was written."""

    def __init__(self, source: Path, *stages: Stage, name: str = "hero", **params: Any) -> None:
        self.monitor = Monitor()
        self.target = Target(source.with_name("result"), "web", params, name=name)
        [rendered] = render(source, [*stages, Stage("web", params)], [self.target], LIMITS, self.monitor)
        assert isinstance(rendered, Rendered)
        self.parts = {part.suffix: part for part in rendered.parts}
        self.manifest = json.loads(self.path("manifest.json").read_text())
        self.html = self.path("picture.html").read_text()

    @property
    def report(self) -> dict[str, Any]:
        return self.monitor.reports[max(self.monitor.reports)]

    def path(self, suffix: str) -> Path:
        return self.target.path_of(self.parts[suffix])

    def bytes(self, suffix: str) -> int:
        return self.path(suffix).stat().st_size

    @property
    def elements(self) -> list[tuple[str, dict[str, str | None]]]:
        found: list[tuple[str, dict[str, str | None]]] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
                found.append((tag, dict(attributes)))

        Reader().feed(self.html)
        return found


def test_every_width_is_there_in_every_format(source: Path, large: Pixels) -> None:
    made = _Made(source, widths=[400, 200])
    images = [f"{width}.{ext}" for ext in ("avif", "webp", "jpg") for width in (200, 400)]
    assert list(made.parts) == images + BOTH
    assert {path.name for path in source.parent.iterdir()} == {"source.jpg", *(f"result.{name}" for name in made.parts)}
    for name in images:
        part = made.parts[name]
        with Image.open(made.path(name)) as image:
            assert (image.format.lower(), image.size) == (part.format, (part.width, part.height))
    assert (made.parts["400.webp"].height, made.parts["manifest.json"].width) == (300, None)
    shrunk = Image.fromarray(large).convert("L").resize((400, 300), Image.Resampling.LANCZOS)
    assert similarity(pixels(made.path("400.jpg"), "L"), np.asarray(shrunk)) > 0.9
    assert made.report == {"widths": [200, 400]}


def test_widths_above_the_sources_become_it_and_the_manifest_and_the_step_say_so(source: Path) -> None:
    made = _Made(source, widths=[200, 1280, 1920], formats=["webp"])
    assert list(made.parts) == ["200.webp", "800.webp", *BOTH]
    assert made.manifest["capped"] == made.report["capped"] == {"widths": [1280, 1920], "to": 800}
    assert _Made(source, widths=[200, 800], formats=["webp"]).manifest["capped"] is None


def test_the_source_is_what_the_operations_before_leave(source: Path) -> None:
    made = _Made(source, Stage("crop", {"width": 300, "height": 200}), widths=[150, 600], formats=["jpeg"])
    assert list(made.parts) == ["150.jpg", "300.jpg", *BOTH]
    assert (made.manifest["width"], made.manifest["height"]) == (300, 200)


def test_the_image_is_decoded_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrinks: list[int] = []
    read = pipeline.ImageFile.read

    def counted(file: Any, shrink: int = 1) -> Any:
        shrinks.append(shrink)
        return read(file, shrink)

    monkeypatch.setattr(pipeline.ImageFile, "read", counted)
    made = _Made(source, widths=[100, 200, 400], formats=["webp", "jpeg"])
    assert shrinks == [2], "the decoder does a part of the work"
    assert (made.manifest["width"], made.manifest["height"]) == (800, 600)


@pytest.mark.slow
def test_a_small_width_looks_as_if_it_was_made_of_the_whole(tmp_path: Path, photo: Pixels) -> None:
    path, whole = tmp_path / "source.png", photograph(960, 720)
    Image.fromarray(whole).save(path, compress_level=1)
    made = _Made(path, widths=[60, 960], formats=["jpeg"], quality=95)
    direct = as_image(whole).thumbnail_image(60, height=45, size="force").numpy()
    assert similarity(pixels(made.path("60.jpg"), "L"), np.asarray(Image.fromarray(direct).convert("L"))) > 0.98


def test_the_manifest_lists_what_there_is(source: Path) -> None:
    made = _Made(source, widths=[200, 400], formats=["avif", "jpeg"], base_url="https://cdn.test/img/", alt='"Æ" & <b>')
    assert made.manifest["images"][0] == {
        "url": "https://cdn.test/img/hero.200.avif",
        "file": "hero.200.avif",
        "format": "avif",
        "width": 200,
        "height": 150,
        "bytes": made.bytes("200.avif"),
        "quality": 65,
        "content_type": "image/avif",
    }
    assert made.manifest["alt"] == '"Æ" & <b>'
    assert made.manifest["sources"][1] == {
        "type": "image/jpeg",
        "srcset": "https://cdn.test/img/hero.200.jpg 200w, https://cdn.test/img/hero.400.jpg 400w",
    }
    assert made.manifest["src"] == "https://cdn.test/img/hero.400.jpg"


def test_the_picture_names_the_best_format_first_and_the_last_one_for_all(source: Path) -> None:
    made = _Made(source, widths=[200, 400], formats=["jpeg", "webp", "avif"], sizes="(max-width: 60em) 100vw, 50vw")
    (_, _), (_, avif), (_, webp), (tag, img) = made.elements
    assert (avif["type"], webp["type"], tag) == ("image/avif", "image/webp", "img")
    assert avif["srcset"] == "hero.200.avif 200w, hero.400.avif 400w"
    assert avif["sizes"] == img["sizes"] == "(max-width: 60em) 100vw, 50vw"
    assert (img["src"], img["width"], img["height"], img["loading"]) == ("hero.400.jpg", "400", "300", "lazy")
    assert made.manifest["lqip"] in str(img["style"])


def test_ratios_of_pixels_go_with_one_width(source: Path) -> None:
    made = _Made(source, width=300, dpr=[1, 2, 3], formats=["webp"], loading="eager")
    ((_, _), (_, img)) = made.elements
    assert img["srcset"] == "hero.300.webp 1x, hero.600.webp 2x, hero.800.webp 2.6667x"
    assert (img["width"], img["height"], img["loading"]) == ("300", "225", "eager")
    assert "sizes" not in img
    assert made.report["capped"] == {"widths": [900], "to": 800}
    small = _Made(source, width=1000, dpr=[1, 2], formats=["webp"])
    assert small.elements[1][1]["srcset"] == "hero.800.webp 1x"
    assert small.elements[1][1]["width"] == "800"


@pytest.mark.parametrize("alt", ['" onload="x', "<script>alert(1)</script>", "'&amp;", "日本\N{GRINNING FACE}"])
def test_what_a_client_sends_is_text_and_never_markup(source: Path, alt: str) -> None:
    made = _Made(source, widths=[100], formats=["jpeg"], alt=alt, base_url="/a&b=(c)", name="x")
    assert [tag for tag, _ in made.elements] == ["picture", "img"]
    img = made.elements[1][1]
    assert (img["alt"], img["src"]) == (alt, "/a&b=(c)/x.100.jpg")
    assert made.html.isascii()
    assert set(img) == {"src", "srcset", "sizes", "width", "height", "alt", "loading", "decoding", "style"}


def test_placeholders_are_those_of_the_image(source: Path, large: Pixels) -> None:
    found = _Made(source, widths=[400], formats=["jpeg"]).manifest
    header, _, content = found["lqip"].partition(",")
    assert header == "data:image/webp;base64"
    assert len(found["lqip"]) < 600
    with Image.open(io.BytesIO(base64.b64decode(content))) as preview:
        assert preview.size == (24, 18)
    hashed = base64.b64decode(found["thumbhash"])
    few = Image.fromarray(large).resize((100, 75), Image.Resampling.LANCZOS).convert("RGBA")
    reference = thumbhash.encode(100, 75, few.tobytes())
    assert hashed[3:5] == reference[3:5], "the shape"
    assert max(abs(one - other) for one, other in zip(hashed[:2], reference[:2], strict=True)) <= 64
    assert len(blurhash.decode(found["blurhash"], 4, 3)) == 3
    assert found["contrast_colour"] == contrast(found["dominant_colour"])


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#ffffff", "#000000"),
        ("#000000", "#ffffff"),
        ("#ffff00", "#000000"),
        ("#0000ff", "#ffffff"),
        ("#777777", "#000000"),
    ],
)
def test_the_contrast_colour_is_easier_to_read(colour: str, expected: str) -> None:
    assert contrast(colour) == expected


def test_a_flat_image_has_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    Image.new("RGB", (300, 200), (30, 90, 200)).save(path)
    found = _Made(path, widths=[100], formats=["webp"]).manifest
    assert (found["dominant_colour"], found["contrast_colour"]) == ("#1e5ac8", "#ffffff")


def test_transparency_stays_where_it_can_and_is_not_covered_by_the_preview(
    samples: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "source"
    path.write_bytes(samples["png-alpha-p3"].read_bytes())
    made = _Made(path, widths=[40, 80], formats=["webp", "jpeg"], background="#ff0000")
    with Image.open(made.path("40.webp")) as image:
        assert image.mode == "RGBA"
    with Image.open(made.path("40.jpg")) as image:
        assert image.mode == "RGB"
    assert "style" not in made.elements[2][1]
    assert base64.b64decode(made.manifest["thumbhash"])[2] & 0x80, "the hash knows of it"
    assert made.report["lost"]["profile"]["reason"] == "keep_metadata"


def test_quality_is_a_number_or_a_likeness(source: Path) -> None:
    plain = _Made(source, widths=[400], formats=["webp", "jpeg"], quality=30)
    assert {image["quality"] for image in plain.manifest["images"]} == {30}
    alike = _Made(source, widths=[400], formats=["webp", "jpeg"], min_ssim=0.97)
    for image in alike.manifest["images"]:
        assert image["ssim"] >= 0.97
    assert len({image["quality"] for image in alike.manifest["images"]}) == 2


def test_steps_of_bytes_hold_in_the_first_format(source: Path) -> None:
    made = _Made(source, bytes_step=4000, min_width=100, formats=["jpeg", "webp"])
    widths = [image["width"] for image in made.manifest["images"] if image["format"] == "jpeg"]
    assert (widths[0], widths[-1]) == (100, 800)
    sizes = [made.bytes(f"{width}.jpg") for width in widths]
    assert all(larger - smaller <= 4000 for smaller, larger in pairwise(sizes))
    assert len(widths) == -((sizes[0] - sizes[-1]) // 4000) + 1
    assert [image["width"] for image in made.manifest["images"] if image["format"] == "webp"] == widths
    kept = {path.name for path in source.parent.iterdir() if path.name.startswith("result.")}
    assert kept == {f"result.{suffix}" for suffix in made.parts}, "nothing is left of what was tried"
    with pytest.raises(TargetUnreachable, match="`max_images` of 2 is too few"):
        _Made(source, bytes_step=4000, min_width=100, max_images=2, formats=["jpeg"])


def test_bounds_of_steps_above_the_source_are_told(source: Path) -> None:
    made = _Made(source, bytes_step=1_000_000, min_width=900, max_width=2000, formats=["webp"])
    assert list(made.parts) == ["800.webp", *BOTH]
    assert made.manifest["capped"] == {"widths": [900, 2000], "to": 800}


def test_an_animation_gives_its_first_frame_and_the_step_says_so(samples: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(samples["gif-animated"].read_bytes())
    made = _Made(path, widths=[40], formats=["webp"])
    with Image.open(made.path("40.webp")) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert made.report["lost"]["animation"]["reason"] == "operation"


@pytest.mark.parametrize("name", ["png-rgb-16", "png-grey", "png-grey-alpha", "jpeg-cmyk", "png-palette"])
def test_pictures_of_every_kind(samples: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = tmp_path / "source"
    path.write_bytes(samples[name].read_bytes())
    made = _Made(path, widths=[20, 160])
    for width in (20, 160):
        for ext in ("avif", "webp", "jpg"):
            assert pixels(made.path(f"{width}.{ext}")).shape[1] == width


def test_no_metadata_leaves(tmp_path: Path, photo: Pixels, display_p3: bytes) -> None:
    path = tmp_path / "source.jpg"
    path.write_bytes(encoded(Image.fromarray(photo), "JPEG", exif=exif(), icc_profile=display_p3))
    made = _Made(path, widths=[100])
    for ext in ("avif", "webp", "jpg"):
        with Image.open(made.path(f"100.{ext}")) as image:
            assert not dict(image.getexif())
            assert "icc_profile" not in image.info
    assert set(made.report["lost"]) >= {"exif", "profile"}


def test_a_part_of_a_path_is_no_suffix() -> None:
    for suffix in ("../x.avif", "a/b.avif", ".avif", "320", "320.avif/"):
        with pytest.raises(ValueError, match="no end of a file's name"):
            Part(suffix, "avif")


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    path = tmp_path / "source.png"
    Image.fromarray(photo).save(path)
    made = _Made(path, widths=[80], formats=["webp"], name="web")
    result = tmp_path / "web.webp"
    result.write_bytes(made.path("80.webp").read_bytes())
    assert matches_golden(result)
