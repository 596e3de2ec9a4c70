"""Animations stay animated as long as every operation and the format can; otherwise the step says what is left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from app.errors import ImageTooLarge
from app.imaging.pipeline import INTERMEDIATE, Limits, Stage, Target, render
from app.imaging.recipe import Monitor
from app.operations import OPERATIONS
from tests.imaging.conftest import Pixels, encoded, exif, similarity

LIMITS = Limits(pixels=1_000_000, side=4000)
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 20))
DELAYS = (100, 200, 50, 400)  # milliseconds
WIDTH, HEIGHT = 60, 40


def _frame(number: int) -> Image.Image:
    """A square that walks over a plain ground."""
    pixels = np.full((HEIGHT, WIDTH, 3), COLOURS[number], np.uint8)
    pixels[10:20, 5 + 10 * number : 15 + 10 * number] = 0
    return Image.fromarray(pixels)


@pytest.fixture
def moving(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    frames = [_frame(number) for number in range(len(COLOURS))]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": list(DELAYS), "loop": 3}
    kind = getattr(request, "param", "gif")
    options |= {"lossless": True} if kind == "webp" else {}
    (tmp_path / "source").write_bytes(encoded(frames[0], kind.upper(), **options))
    return tmp_path / "source"


def _run(source: Path, *stages: Stage, op: str, limits: Limits = LIMITS, **params: Any) -> tuple[Path, dict[str, Any]]:
    monitor = Monitor()
    target = Target(source.parent / "result", op, params)
    all_stages = [*stages, Stage(op, params)]
    [rendered] = render(source, all_stages, [target], limits, monitor)
    with Image.open(target.path) as image:
        assert (rendered.width, rendered.height) == image.size
    return target.path, monitor.reports.get(len(stages), {})


def _frames(path: Path) -> tuple[list[Pixels], list[int], int]:
    with Image.open(path) as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        delays = []
        for number in range(len(frames)):
            image.seek(number)
            image.load()
            delays.append(int(image.info["duration"]))
        return frames, delays, int(image.info["loop"])


@pytest.mark.parametrize("moving", ["gif", "webp"], indirect=True)
@pytest.mark.parametrize(("op", "params"), [("convert_webp", {"lossless": True}), ("convert_gif", {})])
@pytest.mark.parametrize("stages", [(), (Stage("resize", {"width": 30}),)], ids=["as it is", "resized"])
def test_every_frame_its_time_and_the_loops_are_kept(
    moving: Path, op: str, params: dict[str, Any], stages: tuple[Stage, ...]
) -> None:
    path, report = _run(moving, *stages, op=op, **params)
    frames, delays, loop = _frames(path)
    assert (len(frames), delays) == (4, list(DELAYS))
    repeated = moving.read_bytes().startswith(b"GIF")  # GIF counts repetitions, WebP showings
    assert loop == 3 + repeated - (op == "convert_gif")
    assert "frames" not in report
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert np.abs(frame[-1, -1].astype(int) - colour).max() < 6


ANIMATED = [operation for operation in OPERATIONS.values() if operation.animated and operation.format is None]


@pytest.mark.parametrize("operation", ANIMATED, ids=[operation.name for operation in ANIMATED])
def test_every_operation_on_a_frame_is_that_on_a_still(moving: Path, tmp_path: Path, operation: Any) -> None:
    params = {**operation.example, **({"width": 20, "height": 20} if "width" in operation.example else {})}
    path, _ = _run(moving, Stage(operation.name, params), op="convert_webp", lossless=True)
    frames, _, _ = _frames(path)
    assert len(frames) == 4
    if operation.name == "trim":
        return  # whose area is that of all frames
    for number, frame in enumerate(frames):
        still = tmp_path / "still"
        _frame(number).save(still, "PNG")
        expected, _ = _run(still, Stage(operation.name, params), op="convert_png")
        with Image.open(expected) as image:
            assert np.abs(frame.astype(int) - np.asarray(image.convert("RGB"))).max() <= 3


def test_trim_keeps_what_moves_in_any_frame(moving: Path) -> None:
    """The square walks from 5 to 45."""
    frames = [Image.fromarray(np.where(np.asarray(_frame(n)) == 0, 0, 255).astype(np.uint8)) for n in range(4)]
    moving.write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50))
    path, _ = _run(moving, Stage("trim", {}), op="convert_gif")
    with Image.open(path) as image:
        assert (image.size, image.n_frames) == ((40, 10), 4)


def test_attention_does_not_jump(moving: Path) -> None:
    stage = Stage("resize", {"width": 30, "height": 40, "fit": "cover", "gravity": "attention"})
    frames, _, _ = _frames(_run(moving, stage, op="convert_webp", lossless=True)[0])
    dark = [np.argwhere(frame.max(-1) < 60)[:, 1] for frame in frames]
    left = [columns.min() for columns in dark if columns.size and columns.min() > 0]
    assert len(left) >= 2
    assert set(np.diff(left)) == {10}  # the square walks on in a picture that stands still


@pytest.mark.parametrize("op", ["convert_png", "convert_jpeg", "convert_avif", "convert_tiff"])
def test_other_formats_take_the_first_frame_and_say_so(moving: Path, op: str) -> None:
    path, report = _run(moving, op=op)
    assert report["lost"] == {"animation": {"reason": "format", "frames": 4, "written": 1}}
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 1
        assert np.abs(np.asarray(image.convert("RGB"))[-1, -1].astype(int) - COLOURS[0]).max() < 12


@pytest.mark.parametrize("name", ["tiff-pages", "png-animated", "avif-animated"])
def test_of_a_document_the_first_page_is_written(samples: dict[str, Path], tmp_path: Path, name: str) -> None:
    monitor = Monitor()
    render(samples[name], [Stage("convert_webp", {})], [Target(tmp_path / "x", "convert_webp", {})], LIMITS, monitor)
    [(_, lost)] = monitor.reports[0]["lost"].items()
    assert (lost["reason"], lost["written"]) == ("unread", 1)


def test_an_animation_travels_between_tasks(moving: Path, tmp_path: Path) -> None:
    between = Target(tmp_path / "source.between", INTERMEDIATE, {})
    render(moving, [Stage("resize", {"width": 30})], [between], LIMITS)
    path, _ = _run(between.path, Stage("flip", {}), op="convert_webp", lossless=True)
    frames, delays, _ = _frames(path)
    assert (len(frames), delays, frames[0].shape) == (4, list(DELAYS), (20, 30, 3))
    path, report = _run(between.path, op="convert_png")
    assert report["lost"] == {"animation": {"reason": "format", "frames": 4, "written": 1}}


def test_all_frames_count_for_the_limits(moving: Path) -> None:
    enough = Limits(pixels=4 * WIDTH * HEIGHT, side=4000)
    _run(moving, op="convert_webp", limits=enough)
    with pytest.raises(ImageTooLarge, match="4 frames"):
        _run(moving, Stage("resize", {"width": WIDTH + 1, "enlarge": True}), op="convert_webp", limits=enough)
    with pytest.raises(ImageTooLarge, match="4 frames"):
        _run(moving, op="convert_webp", limits=Limits(pixels=4 * WIDTH * HEIGHT - 1, side=4000))
    _run(moving, op="convert_png", limits=Limits(pixels=WIDTH * HEIGHT, side=4000))  # where one frame counts


def test_a_contract_holds_for_the_whole_animation(moving: Path) -> None:
    whole, _ = _run(moving, op="convert_webp", quality=100)
    most = whole.stat().st_size * 8 // 10
    path, report = _run(moving, op="convert_webp", quality=100, max_bytes=most)
    assert path.stat().st_size == report["bytes"] <= most
    assert len(_frames(path)[0]) == 4
    _, report = _run(moving, op="convert_webp", min_ssim=0.9)
    assert report["ssim"] >= 0.9


@pytest.mark.parametrize("op", ["convert_webp", "convert_gif"])
def test_equal_frames_do_not_break_a_contract(moving: Path, op: str) -> None:
    frames = [_frame(number) for number in (0, 0, 1, 1, 2)]
    moving.write_bytes(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=True))
    _, report = _run(moving, op=op, min_ssim=0.5)
    assert report["ssim"] >= 0.5


def test_frames_are_upright(tmp_path: Path) -> None:
    frames = [_frame(number).transpose(Image.Transpose.ROTATE_90) for number in range(3)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 50, "lossless": True}
    (tmp_path / "source").write_bytes(encoded(frames[0], "WEBP", exif=exif(6), **options))
    seen, _, _ = _frames(_run(tmp_path / "source", op="convert_webp", lossless=True)[0])
    for number, frame in enumerate(seen):
        assert np.abs(frame.astype(int) - np.asarray(_frame(number))).max() <= 2


def test_a_long_animation_is_higher_than_any_image_may_be(tmp_path: Path) -> None:
    """Its frames stand one below the other in memory."""
    frames = [Image.new("P", (10, 900), number) for number in range(30)]
    for number, frame in enumerate(frames):
        frame.putpalette([number * 8, 255 - number * 8, 90] * 256)
    (tmp_path / "source").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50))
    path, _ = _run(tmp_path / "source", op="convert_webp")
    with Image.open(path) as image:
        assert image.n_frames == 30


def test_transparency_of_frames_is_kept(tmp_path: Path) -> None:
    frames = []
    for number in range(3):
        pixels = np.zeros((40, 60, 4), np.uint8)
        pixels[10:20, 5 + 10 * number : 15 + 10 * number] = (200, 30, 60, 255)
        frames.append(Image.fromarray(pixels))
    (tmp_path / "source").write_bytes(
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    )
    for op in ("convert_webp", "convert_gif"):
        path, _ = _run(tmp_path / "source", op=op)
        with Image.open(path) as image:
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                seen = np.asarray(frame.convert("RGBA"))
                assert similarity(seen[..., 3], np.asarray(frames[number])[..., 3]) > 0.95, op
