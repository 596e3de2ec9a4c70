"""Sizes follow the rule of each fit; pixels stay where they belong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.imaging import resize
from app.parameters import ResizeParams
from tests.imaging.conftest import Pixels, as_image, similarity
from tests.support.sampling import sampled

sides = st.integers(1, 3000)
boxes = st.builds(dict, width=sides, height=sides, enlarge=st.booleans())
small_boxes = st.builds(dict, width=st.integers(1, 90), height=st.integers(1, 90), enlarge=st.booleans())


def _size(width: int, height: int, /, **params: object) -> tuple[int, int]:
    return resize.measure(width, height, ResizeParams(**params)).size


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"width": 200}, (200, 150)),
        ({"height": 60}, (80, 60)),
        ({"width": 200, "height": 60}, (80, 60)),
        ({"width": 200, "height": 60, "fit": "outside"}, (200, 150)),
        ({"width": 200, "height": 60, "fit": "cover"}, (200, 60)),
        ({"width": 200, "height": 60, "fit": "fill"}, (200, 60)),
        ({"width": 200, "fit": "fill"}, (200, 150)),
        ({"width": 200, "fit": "cover"}, (200, 150)),
        ({"width": 800}, (400, 300)),
        ({"width": 800, "enlarge": True}, (800, 600)),
        ({"width": 800, "height": 200, "fit": "cover"}, (400, 200)),
        ({"width": 800, "height": 200, "fit": "cover", "enlarge": True}, (800, 200)),
        ({"width": 800, "height": 200, "fit": "fill"}, (400, 200)),
        ({"width": 800, "height": 200, "fit": "outside"}, (400, 300)),
        ({"width": 1}, (1, 1)),
        ({"width": 200, "height": 60, "fit": "contain"}, (80, 60)),
    ],
)
def test_sizes_for_a_picture_of_400_by_300(params: dict[str, object], expected: tuple[int, int]) -> None:
    assert _size(400, 300, **params) == expected


@given(width=sides, height=sides, box=boxes)
def test_inside_touches_the_box_and_stays_in_it(width: int, height: int, box: dict[str, int]) -> None:
    result = _size(width, height, fit="inside", **box)
    assert result[0] <= box["width"]
    assert result[1] <= box["height"]
    touches = result[0] == box["width"] or result[1] == box["height"]
    assert touches or (result == (width, height) and not box["enlarge"])


@given(width=sides, height=sides, box=boxes)
def test_outside_touches_the_box_and_covers_it(width: int, height: int, box: dict[str, int]) -> None:
    result = _size(width, height, fit="outside", **box)
    if result == (width, height) and not box["enlarge"]:
        return
    assert result[0] >= box["width"]
    assert result[1] >= box["height"]
    assert result[0] == box["width"] or result[1] == box["height"]


@given(width=sides, height=sides, box=boxes)
def test_cover_fills_the_box_as_far_as_there_are_pixels(width: int, height: int, box: dict[str, int]) -> None:
    result = _size(width, height, fit="cover", **box)
    if box["enlarge"] or (width >= box["width"] and height >= box["height"]):
        assert result == (box["width"], box["height"])
    assert result[0] <= box["width"]
    assert result[1] <= box["height"]


@given(width=sides, height=sides, box=boxes)
def test_fill_takes_the_box(width: int, height: int, box: dict[str, int]) -> None:
    result = _size(width, height, fit="fill", **box)
    wanted = (box["width"], box["height"])
    assert result == (wanted if box["enlarge"] else (min(width, wanted[0]), min(height, wanted[1])))


@given(width=sides, height=sides, side=sides, fit=st.sampled_from(["inside", "outside", "cover"]))
def test_the_aspect_ratio_is_kept(width: int, height: int, side: int, fit: str) -> None:
    result = _size(width, height, width=side, fit=fit, enlarge=True)
    assert abs(result[1] - height * result[0] / width) <= 0.5 or result[1] == 1


@settings(max_examples=sampled(150))
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    box=small_boxes,
    fit=st.sampled_from(["inside", "outside", "cover", "fill"]),
)
def test_pixels_come_in_the_size_that_was_measured(width: int, height: int, box: dict[str, int], fit: str) -> None:
    params = ResizeParams(fit=fit, **box)
    result = resize.run(pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb"), params)
    assert (result.width, result.height) == resize.measure(width, height, params).size
    assert result.avg() == 0


def _run(picture: Pixels, **params: object) -> Pixels:
    return resize.run(as_image(picture), ResizeParams(**params)).numpy()


def _by_pillow(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """With the kernel that libvips takes: Lanczos to shrink, cubic to enlarge."""
    kernel = Image.Resampling.LANCZOS if size[0] < picture.shape[1] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize(size, kernel))


@pytest.mark.parametrize("size", [(80, 60), (97, 31), (320, 240)])
def test_looks_like_what_another_library_makes(photo: Pixels, size: tuple[int, int]) -> None:
    other = _by_pillow(photo, size)
    assert similarity(_run(photo, width=size[0], height=size[1], fit="fill", enlarge=True), other) > 0.97


@pytest.mark.parametrize("enlarge", [False, True])
def test_cover_keeps_the_centre(photo: Pixels, enlarge: bool) -> None:
    box = (60, 60) if not enlarge else (240, 240)
    other = _by_pillow(photo[:, 20:140], box)
    assert similarity(_run(photo, width=box[0], height=box[1], fit="cover", enlarge=enlarge), other) > 0.97


def test_an_enlarged_strip_needs_no_room_for_what_is_cut_off() -> None:
    """A line of 10000 pixels, enlarged to cover a square, would be 16 million pixels wide."""
    result = resize.run(
        pyvips.Image.black(10_000, 1, bands=3).copy(interpretation="srgb"),
        ResizeParams(width=1600, height=1600, fit="cover", enlarge=True),
    )
    assert (result.width, result.height) == (1600, 1600)
    assert result.avg() == 0


def test_transparent_pixels_do_not_colour_their_neighbours() -> None:
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:, :20] = (200, 200, 200, 255)
    picture[:, 20:] = (255, 0, 0, 0)
    result = _run(picture, width=10)
    visible = result[result[..., 3] > 64].astype(int)
    assert abs(visible[:, :3] - 200).max() <= 4


def test_a_picture_that_already_fits_is_not_touched(photo: Pixels) -> None:
    assert (_run(photo, width=400) == photo).all()


@pytest.mark.parametrize(
    ("params", "shrink"),
    [
        ({"width": 400}, 1),
        ({"width": 201}, 1),
        ({"width": 200}, 2),
        ({"width": 101}, 2),
        ({"width": 100}, 4),
        ({"width": 10}, 8),
        ({"width": 10, "linear": True}, 1),
        ({"width": 10, "height": 300, "fit": "cover"}, 1),
        ({"width": 10, "height": 150, "fit": "fill"}, 2),
        ({"width": 800, "enlarge": True}, 1),
        ({"width": 1}, 8),
    ],
)
def test_decoders_may_shrink_as_long_as_enough_pixels_are_left(params: dict[str, object], shrink: int) -> None:
    assert resize.measure(400, 300, ResizeParams(**params)).shrink == shrink


def test_decoders_leave_a_line_of_a_thin_picture() -> None:
    assert resize.measure(4000, 3, ResizeParams(width=10)).shrink == 2
    assert resize.measure(3, 4000, ResizeParams(height=10)).shrink == 2


@pytest.mark.parametrize("height", [None, 20])
def test_a_picture_shrunk_beforehand_gives_the_same(photo: Pixels, height: int | None) -> None:
    params = ResizeParams(width=50, height=height, fit="cover")
    half = as_image(photo).shrink(2, 2)
    result = resize.apply(half, resize.measure(160, 120, params), params).numpy()
    assert similarity(result, resize.run(as_image(photo), params).numpy()) > 0.98


def test_golden(tmp_path: Path, photo: Pixels, matches_golden: Callable[[Path], bool]) -> None:
    result = tmp_path / "resize.png"
    params = ResizeParams(width=80, height=80, fit="cover")
    resize.run(as_image(photo), params).pngsave(str(result), keep="none")
    assert matches_golden(result)


@settings(max_examples=sampled(100))
@given(width=st.integers(1, 90), height=st.integers(1, 90), box=small_boxes)
def test_contain_has_the_size_of_the_box(width: int, height: int, box: dict[str, int]) -> None:
    picture = pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb")
    result = resize.run(picture, ResizeParams(fit="contain", background="#ff0000", **box))
    assert (result.width, result.height) == (box["width"], box["height"])
    reds = int((result.numpy() == (255, 0, 0)).all(axis=2).sum())
    kept = resize.measure(width, height, ResizeParams(fit="inside", **box)).size
    assert reds == box["width"] * box["height"] - kept[0] * kept[1]


@pytest.mark.parametrize(("gravity", "at"), [("north", 0), ("center", 20), ("southwest", 40)])
def test_contain_puts_the_picture_where_gravity_says(photo: Pixels, gravity: str, at: int) -> None:
    result = _run(photo, width=160, height=160, fit="contain", gravity=gravity, background="#00ff0080")
    assert (result[at : at + 120, :, :3] == photo).all()
    assert (result[at : at + 120, :, 3] == 255).all()
    padding = np.delete(result, slice(at, at + 120), axis=0)
    assert (padding == (0, 255, 0, 128)).all()


@pytest.mark.parametrize(
    ("params", "left"), [({"gravity": "west"}, 0), ({"gravity": "east"}, 40), ({"focal_point": [0.1, 0.5]}, 0)]
)
def test_cover_keeps_what_gravity_says(photo: Pixels, params: dict[str, object], left: int) -> None:
    assert (_run(photo, width=120, height=120, fit="cover", **params) == photo[:, left : left + 120]).all()


def test_cover_by_attention_keeps_what_catches_the_eye() -> None:
    dull = np.full((200, 600, 3), 120, np.uint8)
    dull[50:150, 480:580] = (240, 60, 30)
    result = _run(dull, width=100, height=100, fit="cover", gravity="attention").astype(int)
    assert (np.abs(result - (240, 60, 30)).max(axis=2) < 60).sum() > 0.8 * 50 * 50


def test_linear_light_keeps_the_brightness_of_fine_detail() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(_run(stripes, width=16, linear=True)[4:-4, 4:-4].mean() - 188) < 4  # half the light
    assert abs(_run(stripes, width=16)[4:-4, 4:-4].mean() - 128) < 4  # half the number


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bits_stay(photo: Pixels, bands: int, linear: bool) -> None:
    image = as_image(photo) if bands > 2 else as_image(photo).colourspace("b-w")
    deep = (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16" if bands > 2 else "grey16")
    deep, image = (deep.addalpha(), image.addalpha()) if bands in {2, 4} else (deep, image)
    result = resize.run(deep, ResizeParams(width=50, linear=linear))
    other = resize.run(image, ResizeParams(width=50, linear=linear))
    assert (result.format, result.bands, result.width) == ("ushort", bands, 50)
    assert np.abs(result.numpy() / 257 - other.numpy()).max() < 3
