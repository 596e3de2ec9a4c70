"""One decode, any number of results: upright, sRGB, without metadata, within the limits."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.errors import CorruptImage, ImageTooLarge, UnsupportedImage, WorkspaceFailed, WorkspaceFull
from app.formats import FORMATS, Format
from app.imaging import geometry, pipeline
from app.imaging.decoding import decode, jpeg
from app.imaging.pipeline import INTERMEDIATE, Limits, Rendered, Stage, Target, render
from app.imaging.recipe import When
from app.imaging.resize import measure
from app.operations import ENCODERS, OPERATIONS, Operation, Queue
from app.parameters import ResizeParams
from app.references import resolve
from tests.imaging.conftest import (
    GPS,
    ORIENTATION,
    SECRET,
    Pixels,
    encoded,
    exif,
    in_turn,
    photograph,
    pixels,
    similarity,
    unturned,
)
from tests.support.sampling import sampled

LIMITS = Limits(pixels=1_000_000, side=4000)
ENCODER_NAMES = sorted(operation.name for operation in ENCODERS.values())


def _render(
    source: Path, *stages: Stage, op: str = "convert_png", limits: Limits = LIMITS, **params: object
) -> tuple[Rendered, Path]:
    target = Target(source.parent / "result", op, params)
    [rendered] = render(source, stages, [target], limits)
    assert rendered
    return rendered, target.path


def _resize(**params: object) -> Stage:
    return Stage("resize", params)


@pytest.mark.slow
def test_every_sample_can_be_rendered(samples: dict[str, Path], photo: Pixels) -> None:
    for name, path in samples.items():
        rendered, result = _render(path)
        assert rendered == Rendered("png", 160, 120), name
        seen = pixels(result, "RGB")
        if not {"alpha", "cmyk", "p3", "grey", "endian"} & set(name.split("-")):
            assert similarity(seen.mean(-1), photo.mean(-1)) > 0.85, name


def test_every_sample_can_be_resized(samples: dict[str, Path]) -> None:
    for name, path in samples.items():
        rendered, result = _render(path, _resize(width=40))
        assert rendered == Rendered("png", 40, 30), name
        assert pixels(result).shape[:2] == (30, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stages", [(), (_resize(width=80),)], ids=["as it is", "resized"])
def test_orientations_are_applied(
    samples: dict[str, Path], photo: Pixels, orientation: int, stages: tuple[Stage, ...]
) -> None:
    rendered, result = _render(samples[f"jpeg-orientation-{orientation}"], *stages)
    assert (rendered.width, rendered.height) == ((80, 60) if stages else (160, 120))
    upright = np.asarray(Image.fromarray(photo).resize((rendered.width, rendered.height), Image.Resampling.LANCZOS))
    assert similarity(pixels(result), upright) > 0.9


def test_a_large_picture_is_turned(tmp_path: Path) -> None:
    """One that does not fit into the lines that libvips holds while it decodes."""
    picture = Image.fromarray(photograph(900, 700))
    (tmp_path / "source").write_bytes(encoded(unturned(picture, 3), "JPEG", quality=95, exif=exif(3)))
    _, result = _render(tmp_path / "source")
    assert abs(pixels(result).astype(int) - np.asarray(picture)).mean() < 2


@settings(max_examples=sampled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    params=st.builds(
        dict,
        width=st.integers(1, 120),
        height=st.none() | st.integers(1, 120),
        fit=st.sampled_from(["inside", "outside", "cover", "fill"]),
        enlarge=st.booleans(),
    ),
    orientation=st.sampled_from([1, 6]),
)
def test_sizes_follow_the_whole_upright_picture(
    tmp_path: Path, size: tuple[int, int], params: dict[str, Any], orientation: int
) -> None:
    expected = measure(*size, ResizeParams(**params)).size
    assume(max(expected) <= LIMITS.side and expected[0] * expected[1] <= LIMITS.pixels)
    picture = Image.new("RGB", size if orientation == 1 else size[::-1])
    (tmp_path / "source").write_bytes(encoded(picture, "JPEG", exif=exif(orientation)))
    rendered, _ = _render(tmp_path / "source", _resize(**params))
    assert (rendered.width, rendered.height) == expected


def test_a_profile_gives_the_same_colours_with_and_without_shrinking(samples: dict[str, Path]) -> None:
    for name in ("jpeg-p3", "jpeg-cmyk", "png-alpha-p3", "png-rgb-16"):
        _, whole = _render(samples[name])
        with Image.open(whole) as image:
            expected = np.asarray(image.resize((40, 30), Image.Resampling.LANCZOS))
        _, shrunk = _render(samples[name], _resize(width=40))
        assert pixels(shrunk).shape == expected.shape
        difference = abs(pixels(shrunk).astype(int) - expected)[..., :3]
        assert np.median(difference) <= 2, name


@pytest.mark.parametrize(
    ("name", "whole", "resized"),
    [("png-grey-16", "I;16", "I;16"), ("png-grey-alpha", "LA", "LA"), ("jpeg-grey", "L", "L")],
)
def test_grey_stays_grey(samples: dict[str, Path], name: str, whole: str, resized: str) -> None:
    for stages, mode in (((), whole), ((_resize(width=40),), resized)):
        _, result = _render(samples[name], *stages)
        with Image.open(result) as image:
            assert image.mode == mode


@pytest.mark.parametrize(
    ("name", "op", "width"),
    in_turn(["jpeg-orientation-6", "jpeg-p3", "png", "webp-metadata", "gif", "avif"], ENCODER_NAMES, [(None,), (80,)]),
)
def test_no_metadata_gets_out(samples: dict[str, Path], name: str, op: str, width: int | None) -> None:
    _, result = _render(samples[name], *([_resize(width=width)] if width else []), op=op)
    assert SECRET.encode() not in result.read_bytes()
    with Image.open(result) as image:
        assert not {"exif", "icc_profile", "xmp", "comment", "Comment"} & set(image.info)
        assert GPS not in image.getexif()
        assert image.getexif().get(ORIENTATION, 1) == 1


def test_the_secret_is_there_to_get_out(samples: dict[str, Path]) -> None:
    for name in ("jpeg-orientation-6", "webp-metadata", "gif"):
        assert SECRET.encode() in samples[name].read_bytes()


@pytest.mark.parametrize("name", ["gif-animated", "webp-animated", "avif-animated", "tiff-pages", "png-animated"])
def test_the_first_frame_counts(samples: dict[str, Path], name: str) -> None:
    _, result = _render(samples[name])
    with Image.open(samples[name]) as image:
        assert similarity(pixels(result, "RGB"), np.asarray(image.convert("RGB"))) > 0.95


def test_several_targets_share_one_decode(
    samples: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = _recorded_loads(monkeypatch)
    ops = {"convert_webp": {"lossless": True}, "convert_png": {}, INTERMEDIATE: {}, "convert_jpeg": {}}
    targets = [Target(tmp_path / op, op, params) for op, params in ops.items()]
    rendered = render(samples["png"], [], targets, LIMITS)
    assert [file and file.format for file in rendered] == ["webp", "png", "tiff", "jpeg"]
    assert len(loads) == 1
    for lossless in targets[:3]:
        assert (pixels(lossless.path) == pixels(samples["png"])).all()


@pytest.mark.parametrize(
    ("pixels", "written"),
    [
        (2 * 160 * 120, ["jpeg", "webp", None, "tiff"]),
        (3 * 160 * 120, ["jpeg", "webp", "png", None]),
        (160 * 120, ["jpeg", None, None, "tiff"]),
    ],
)
def test_a_cheap_target_is_left_out_when_there_is_much_to_do(
    samples: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pixels: int,
    written: list[str | None],
) -> None:
    monkeypatch.setattr(pipeline, "CHEAP_PIXELS", pixels)
    targets = [
        Target(tmp_path / "a", "convert_jpeg", {}),
        Target(tmp_path / "b", "convert_webp", {}, When.CHEAP),
        Target(tmp_path / "c", "convert_png", {}, When.CHEAP),
        Target(tmp_path / "d", INTERMEDIATE, {}, When.OTHERWISE),
    ]
    rendered = render(samples["png"], [], targets, LIMITS)
    assert [file and file.format for file in rendered] == written
    assert [target.path.exists() for target in targets] == [format_ is not None for format_ in written]


def test_only_a_cheap_target_may_fail(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(encoded(Image.new("RGB", (1, 16384)), "PNG"))
    limits = Limits(pixels=1_000_000, side=16384)
    last = Target(tmp_path / "b", "convert_png", {}, When.OTHERWISE)
    refused = Target(tmp_path / "a", "convert_webp", {})
    with pytest.raises(ImageTooLarge):
        render(tmp_path / "source", [], [refused, last], limits)
    left_out, written = render(tmp_path / "source", [], [replace(refused, when=When.CHEAP), last], limits)
    assert (left_out, written) == (None, Rendered("png", 1, 16384))


def _recorded_loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collects the size of every image that is opened."""
    sizes = []

    def recorded(load: Callable[..., pyvips.Image]) -> Callable[..., pyvips.Image]:
        def recorded_load(*args: Any, **options: int) -> pyvips.Image:
            image = load(*args, **options)
            sizes.append((image.width, image.height))
            return image

        return recorded_load

    for module in (decode, jpeg):
        monkeypatch.setattr(module, "load", recorded(module.load))
    return sizes


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_leading_resize_shrinks_while_decoding(
    samples: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = _recorded_loads(monkeypatch)
    _render(samples[name], _resize(width=35))
    assert loads == [(160, 120), (40, 30)]
    loads.clear()
    _render(samples[name], Stage("convert_webp", {}), _resize(width=35))
    assert set(loads) == {(160, 120)}  # what follows an encoder may as well be a task of its own, which could not


@pytest.mark.parametrize("name", ["jpeg", "jpeg-orientation-6", "webp", "webp-alpha"])
@pytest.mark.parametrize("params", [{"width": 40}, {"width": 35, "height": 35, "fit": "cover"}])
def test_shrinking_while_decoding_looks_the_same(
    samples: dict[str, Path], name: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk = pixels(_render(samples[name], _resize(**params))[1])
    monkeypatch.setattr(geometry, "SHRINKS", ())
    whole = pixels(_render(samples[name], _resize(**params))[1])
    assert not (shrunk == whole).all()
    assert similarity(shrunk, whole) > 0.95


def test_stages_run_in_order(samples: dict[str, Path]) -> None:
    crop = _resize(width=60, height=60, fit="cover")
    first, _ = _render(samples["png"], crop, _resize(width=30, height=10, fit="fill"))
    second, _ = _render(samples["png"], _resize(width=30, height=10, fit="fill"), crop)
    assert (first.width, first.height) == (30, 10)
    assert (second.width, second.height) == (30, 10)  # nothing is enlarged unasked
    third, _ = _render(samples["png"], crop, _resize(width=50))
    assert (third.width, third.height) == (50, 50)


def test_encoders_between_the_stages_change_no_pixels(samples: dict[str, Path]) -> None:
    poor = Stage("convert_jpeg", {"quality": 1})
    _, plain = _render(samples["png"], _resize(width=80))
    expected = pixels(plain)
    _, result = _render(samples["png"], poor, _resize(width=80), poor)
    assert (pixels(result) == expected).all()


@pytest.mark.parametrize("name", ["png", "png-alpha", "png-grey", "png-grey-alpha"])
def test_the_intermediate_is_lossless(samples: dict[str, Path], tmp_path: Path, name: str) -> None:
    rendered, intermediate = _render(samples[name], op=INTERMEDIATE)
    assert rendered == Rendered("tiff", 160, 120)
    target = Target(tmp_path / "again", "convert_png", {})
    render(intermediate, [], [target], LIMITS)
    assert (pixels(target.path) == pixels(samples[name])).all()


def test_the_source_is_held_to_the_limits(samples: dict[str, Path]) -> None:
    with pytest.raises(ImageTooLarge) as pixel_count:
        _render(samples["jpeg"], limits=Limits(pixels=160 * 120 - 1, side=4000))
    assert (pixel_count.value.limit, pixel_count.value.value) == (19_199, 19_200)
    with pytest.raises(ImageTooLarge) as side:
        _render(samples["jpeg"], _resize(width=10), limits=Limits(pixels=1_000_000, side=159))
    assert (side.value.limit, side.value.value) == (159, 160)
    _render(samples["jpeg"], limits=Limits(pixels=160 * 120, side=160))


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_the_result_is_held_to_the_limits(samples: dict[str, Path], name: str) -> None:
    with pytest.raises(ImageTooLarge):
        _render(samples[name], _resize(width=2000, enlarge=True))
    with pytest.raises(ImageTooLarge):
        _render(samples[name], _resize(height=10), _resize(width=4001, height=1, fit="fill", enlarge=True))


GREY = (120, 120, 120)  # which no operation that is not about a place changes
PIXEL_OPERATIONS = [
    operation for operation in OPERATIONS.values() if operation.format is None and operation.queue is Queue.DEFAULT
]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
@pytest.mark.parametrize("operation", PIXEL_OPERATIONS, ids=[operation.name for operation in PIXEL_OPERATIONS])
def test_the_thinnest_pictures_pass_every_operation(
    tmp_path: Path, size: tuple[int, int], operation: Operation
) -> None:
    (tmp_path / "source").write_bytes(encoded(Image.new("RGB", size, GREY), "PNG"))
    rendered, result = _render(tmp_path / "source", Stage(operation.name, operation.example))
    assert rendered.width * rendered.height >= 1
    if operation.name != "watermark":
        assert abs(pixels(result, "RGB")[0, 0].astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("op", ENCODER_NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_the_thinnest_pictures_pass_every_encoder(tmp_path: Path, size: tuple[int, int], op: str) -> None:
    (tmp_path / "source").write_bytes(encoded(Image.new("RGB", size, GREY), "PNG"))
    _, result = _render(tmp_path / "source", op=op)
    seen = pixels(result, "RGB")
    assert seen.shape[:2] == size[::-1]
    assert abs(seen.astype(int) - GREY).max() <= 12


def test_the_longest_picture_of_a_jpeg_is_refused_by_its_side(tmp_path: Path) -> None:
    for size in ((1, 65535), (65500, 1)):
        (tmp_path / "source").write_bytes(encoded(Image.new("L", size), "PNG"))
        with pytest.raises(ImageTooLarge) as caught:
            _render(tmp_path / "source", limits=Limits(pixels=1_000_000, side=16384))
        assert (caught.value.limit, caught.value.value) == (16384, max(size))


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    """144 megapixels in a small file."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(pyvips.Image.black(12_000, 12_000).pngsave_buffer())
    with pytest.raises(ImageTooLarge, match="144000000"):
        _render(bomb, _resize(width=10))


def _damaged(path: Path, result: Path, *, start: float, length: float, zero: bool) -> Path:
    content = bytearray(path.read_bytes())
    at, count = int(len(content) * start), int(len(content) * length)
    content[at : at + count] = bytes(count) if zero else np.random.default_rng(5).bytes(count)
    result.write_bytes(content)
    return result


def _large(name: str) -> bytes:
    """A JPEG with more lines than libvips reads at once; what is wrong with the last ones goes unnoticed."""
    return encoded(Image.fromarray(photograph(640, 480)), "JPEG", progressive="progressive" in name)


@pytest.mark.parametrize("zero", [True, False], ids=["zeros", "garbage"])
@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "png-palette", "tiff-deflate", "gif", "avif"])
@pytest.mark.parametrize("stages", [(), (_resize(width=80),)], ids=["as it is", "resized"])
def test_broken_pixels_are_corrupt(
    samples: dict[str, Path], tmp_path: Path, name: str, zero: bool, stages: tuple[Stage, ...]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(_large(name) if name.startswith("jpeg") else samples[name].read_bytes())
    _render(source, *stages)
    with pytest.raises((CorruptImage, UnsupportedImage)):
        _render(_damaged(source, source, start=0.4, length=0.3, zero=zero), *stages)


@pytest.mark.parametrize("name", ["webp", "webp-lossless"])
def test_a_broken_webp_is_corrupt(samples: dict[str, Path], tmp_path: Path, name: str) -> None:
    """As far as it can be known: WebP has no checksums, and most garbage further on is a valid picture."""
    content = samples[name].read_bytes()
    (tmp_path / "source").write_bytes(content[:40] + b"\xff" * (len(content) - 40))
    with pytest.raises(CorruptImage):
        _render(tmp_path / "source")


@pytest.mark.parametrize(
    "content", [b"x", b"no image", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"]
)
def test_other_files_are_unsupported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(UnsupportedImage):
        _render(tmp_path / "source")


ONE_OF_MANY = {"png-animated", "avif-animated", "tiff-pages"}  # whose first picture, all that is read, comes early


def test_a_cut_file_is_corrupt(samples: dict[str, Path], tmp_path: Path) -> None:
    for path in (path for name, path in samples.items() if name not in ONE_OF_MANY):
        (tmp_path / "source").write_bytes(path.read_bytes().rstrip(b"\0")[:-200])
        with pytest.raises(CorruptImage):
            _render(tmp_path / "source")


@settings(max_examples=sampled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_ends_in_a_picture_or_an_error_of_ours(
    samples: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    path = samples[data.draw(st.sampled_from(sorted(samples)))]
    start, length = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 0.5))
    source = _damaged(path, tmp_path / "source", start=start, length=length, zero=data.draw(st.booleans()))
    stages = data.draw(st.sampled_from([(), (_resize(width=40),)]))
    with suppress(CorruptImage, ImageTooLarge, UnsupportedImage):
        _render(source, *stages)


def test_a_damaged_directory_is_not_taken_for_a_lack_of_memory(samples: dict[str, Path], tmp_path: Path) -> None:
    """libtiff fails to allocate nothing for it, and says so."""
    with pytest.raises(CorruptImage):
        _render(
            _damaged(samples["tiff-pages"], tmp_path / "source", start=0.5, length=0.5, zero=True), _resize(width=40)
        )


@pytest.mark.parametrize("op", [*ENCODER_NAMES, INTERMEDIATE])
@pytest.mark.parametrize("path", ["/dev/full", "/no/such/folder/result"])
def test_a_full_disk_does_not_make_the_image_corrupt(samples: dict[str, Path], op: str, path: str) -> None:
    with pytest.raises(WorkspaceFailed) as caught:
        render(samples["jpeg"], [], [Target(Path(path), op, {})], LIMITS)
    assert caught.value.retryable
    assert isinstance(caught.value, WorkspaceFull) == (path == "/dev/full"), "only a full disk is waited for"
    assert path not in caught.value.message


def test_a_lost_source_does_not_count_as_corrupt(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceFailed):
        _render(tmp_path / "lost")


def test_a_file_name_holds_no_options(samples: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "picture.jpg[shrink=8]"
    source.write_bytes(samples["jpeg"].read_bytes())
    assert _render(source)[0].width == 160


def test_two_files_of_one_name_are_two_images(samples: dict[str, Path], tmp_path: Path) -> None:
    for name in ("png", "png-grey"):
        (tmp_path / "source").write_bytes(samples[name].read_bytes())
        _, result = _render(tmp_path / "source")
        assert (pixels(result) == pixels(samples[name])).all()


def test_an_operation_without_a_format_is_no_target(samples: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="resize"):
        _render(samples["jpeg"], op="resize", width=9)


def test_every_encoder_writes_its_format(samples: dict[str, Path]) -> None:
    for operation in ENCODERS.values():
        rendered, result = _render(samples["jpeg"], op=operation.name, **operation.example)
        assert rendered.format == operation.format
        with Image.open(result) as image:
            assert image.format.lower() == operation.format


def test_every_handler_exists() -> None:
    for operation in OPERATIONS.values():
        for reference in (operation.handler, operation.frames_handler, operation.on_load):
            if reference and reference.startswith("app.imaging."):
                assert callable(resolve(reference))


@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)
def test_every_format_can_be_read_as_its_entry_says(format_: Format) -> None:
    for reference in filter(None, (format_.probe, format_.looked_into_by, *format_.decoders)):
        assert callable(resolve(reference)), reference
    assert format_.is_input == bool(format_.loader or format_.opened_by)
    assert not format_.written_as or format_.written_as in ENCODERS
