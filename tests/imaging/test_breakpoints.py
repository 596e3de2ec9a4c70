"""Widths of a page's set: those that were asked for, and those that steps of bytes need."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import TargetUnreachable
from app.imaging.responsive.breakpoints import Breakpoints, by_steps, fixed, largest, on_load, outlines
from app.parameters import WebParams


def _params(**given: object) -> WebParams:
    return WebParams.model_validate(given, strict=True)


def test_widths_are_sorted_and_each_is_there_once() -> None:
    assert fixed(_params(widths=[640, 320, 640]), 4000) == Breakpoints((320, 640))
    assert fixed(_params(), 4000) == Breakpoints((320, 640, 1280, 1920))


def test_no_width_is_above_the_sources() -> None:
    assert fixed(_params(widths=[320, 800, 1280, 1920]), 1000) == Breakpoints((320, 800, 1000), (1280, 1920))
    assert fixed(_params(widths=[320]), 160) == Breakpoints((160,), (320,))


def test_device_pixel_ratios_multiply_a_width() -> None:
    assert fixed(_params(width=333, dpr=[1, 1.5, 2, 3]), 900) == Breakpoints((333, 500, 666, 900), (999,))


def test_files_are_known_by_their_names_and_sizes() -> None:
    found = outlines(_params(widths=[320, 9000], formats=["avif", "jpeg"]), (3000, 2001))
    assert [(each.suffix, each.format, each.size) for each in found] == [
        ("320.avif", "avif", (320, 213)),
        ("320.jpg", "jpeg", (320, 213)),
        ("3000.avif", "avif", (3000, 2001)),
        ("3000.jpg", "jpeg", (3000, 2001)),
        ("manifest.json", "json", None),
        ("picture.html", "html", None),
    ]


@pytest.mark.parametrize("unknown", [(_params(bytes_step=20_000), (3000, 2000)), (_params(), None)])
def test_names_without_widths_have_a_place_for_them(unknown: tuple[WebParams, tuple[int, int] | None]) -> None:
    assert [each.suffix for each in outlines(*unknown)][:3] == ["{width}.avif", "{width}.webp", "{width}.jpg"]


def test_the_decoder_leaves_the_largest_width() -> None:
    assert on_load((4000, 3000), _params(widths=[320, 1000]))[0] == 4
    assert on_load((4000, 3000), _params(widths=[320, 1001]))[0] == 2
    assert on_load((4000, 3000), _params(bytes_step=9000, max_width=2001))[0] == 1
    assert largest(_params(bytes_step=9000, max_width=2001), (4000, 3000)) == (2001, 1501)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"widths": [320], "bytes_step": 2000}, "exclude each other"),
        ({"widths": [320], "width": 320, "dpr": [1]}, "exclude each other"),
        ({"dpr": [1, 2]}, "go together"),
        ({"width": 320}, "go together"),
        ({"max_images": 4}, "is for `bytes_step`"),
        ({"bytes_step": 2000, "min_width": 900, "max_width": 800}, "above a `max_width`"),
        ({"formats": ["avif", "avif"]}, "may be named once"),
        ({"alt": "two\nlines"}, "one line"),
        ({"formats": ["gif"]}, "avif"),
        *(
            ({"base_url": url}, "pattern")
            for url in ("javascript:alert(1)", "//evil.test/x", "a b", 'x"', "a,b", "ftp://a")
        ),
        ({"sizes": '100vw" onload="x'}, "pattern"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _params(**given)


@pytest.mark.parametrize("url", ["https://cdn.test/img", "http://[::1]:8000/x/", "/img", "img/a%20b", "/", "../img"])
def test_places_of_files(url: str) -> None:
    assert _params(base_url=url).base_url == url


# -- steps of bytes ----------------------------------------------------------------------------------------------------


def _grows(power: float, factor: float) -> Callable[[int], int]:
    return lambda width: int(factor * width**power)


def _check(bytes_of: Callable[[int], int], widths: tuple[int, ...], step: int) -> None:
    assert list(widths) == sorted(set(widths))
    for smaller, larger in pairwise(widths):
        assert bytes_of(larger) - bytes_of(smaller) <= step


@pytest.mark.parametrize("power", [0.7, 1.0, 1.6, 2.3])
def test_no_step_is_larger_than_asked_and_there_are_no_more_than_equal_ones(power: float) -> None:
    bytes_of = _grows(power, 200_000 / 1920**power)
    tried: list[int] = []

    def measured(width: int) -> int:
        tried.append(width)
        return bytes_of(width)

    widths = by_steps(measured, 320, 1920, 17_000, 50)
    _check(bytes_of, widths, 17_000)
    assert (widths[0], widths[-1]) == (320, 1920)
    assert len(widths) == -((bytes_of(320) - bytes_of(1920)) // 17_000) + 1
    assert len(set(tried)) <= 3 * len(widths)


@given(
    power=st.floats(0.5, 3),
    jitter=st.lists(st.integers(0, 400), min_size=7, max_size=7),
    step=st.integers(2000, 60_000),
    bounds=st.tuples(st.integers(1, 3000), st.integers(1, 3000)).map(sorted),
)
def test_files_that_do_not_grow_evenly_hold_the_step_as_well(
    power: float, jitter: list[int], step: int, bounds: list[int]
) -> None:
    def bytes_of(width: int) -> int:
        return int(300_000 * (width / 3000) ** power) + jitter[width % 7]

    least, most = bounds
    widths = by_steps(bytes_of, least, most, step, 1000)
    _check(bytes_of, widths, step)
    assert (widths[0], widths[-1]) == (least, most)


def test_one_width_is_enough_where_the_image_is_small() -> None:
    assert by_steps(_grows(2, 1), 200, 200, 1000, 2) == (200,)
    assert by_steps(_grows(1, 1), 200, 900, 1000, 2) == (200, 900)


def test_a_larger_width_may_have_a_smaller_file() -> None:
    assert by_steps(lambda width: 10_000 - width, 200, 900, 1000, 2) == (200, 900)


def test_too_few_images_are_an_error_that_says_how_many_are_needed() -> None:
    with pytest.raises(TargetUnreachable, match=r"`max_images` of 5 is too few.* need at least 11 images") as error:
        by_steps(_grows(1, 100), 1000, 2000, 10_000, 5)
    assert (error.value.limit, error.value.value) == (5, 11)


def test_a_step_below_that_of_a_pixel_is_an_error() -> None:
    with pytest.raises(TargetUnreachable, match="`bytes_step` of 1000 is too small"):
        by_steps(_grows(1, 1500), 100, 110, 1000, 50)
