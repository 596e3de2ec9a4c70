"""What plans predict: more for pictures with more to see, and nothing for pixels that are not made."""

import json
from typing import Any

import pytest

from app.formats import FORMATS
from app.services.dag_builder import plan
from app.services.intake import content, costs
from app.services.intake.costs import Estimate, Input, estimate
from app.services.intake.operation_tree import TreeLimits, parse_tree

TREES = TreeLimits(nodes=64, depth=8, bytes=65_536)
PIXELS = 2000 * 1500
BLUR = {"op": "blur", "sigma": 4}
SEARCHED = {"op": "convert_avif", "max_bytes": 20_000}


def predicted(*branches: Any, **facts: Any) -> Estimate:
    given = Input(**({"format": "jpeg", "size": (2000, 1500), "bytes": 1_000_000} | facts))
    _, nodes = parse_tree(json.dumps(branches), TREES)
    return estimate(plan(nodes, given.format), given, costs.REFERENCE_SECONDS)


def seconds(*branches: Any, **facts: Any) -> float:
    return predicted(*branches, **facts).cpu_seconds or 0.0


def file_bytes(*branches: Any, **facts: Any) -> int:
    return sum(outcome.bytes or 0 for outcome in predicted(*branches, **facts).outcomes)


@pytest.mark.parametrize("operation", [*costs.ENCODE, "web"])
def test_a_busier_file_of_the_same_size_costs_more(operation: str) -> None:
    smooth, busy = (predicted(operation, bytes=number) for number in (300_000, 2_000_000))
    assert (smooth.cpu_seconds or 0) < (busy.cpu_seconds or 0)
    assert smooth.memory_bytes == busy.memory_bytes
    for less, more in zip(smooth.outcomes, busy.outcomes, strict=True):
        assert (less.bytes or 0) < (more.bytes or 0) or less.format in {"json", "html"}, less


@pytest.mark.parametrize("format_", [format_.name for format_ in FORMATS.values() if format_.is_input])
def test_decoding_costs_by_the_byte_as_well(format_: str) -> None:
    small = {"op": "resize", "width": 50, "then": ["convert_webp"]}
    usual = round(PIXELS * content.TYPICAL[format_])
    assert seconds(small, format=format_, bytes=usual) < seconds(small, format=format_, bytes=2 * usual)
    unknown = seconds(small, format=format_, bytes=None)
    assert unknown == pytest.approx(seconds(small, format=format_, bytes=usual)), "counts as a usual file"


def test_bytes_that_say_nothing_of_the_pixels_are_bounded() -> None:
    assert file_bytes("convert_png", bytes=1) == file_bytes("convert_png", bytes=2) > 0
    assert file_bytes("convert_webp", bytes=2**31 - 1) < PIXELS * 3


def test_pixels_that_a_crop_leaves_out_are_not_made() -> None:
    crop = {"op": "crop", "width": 300, "height": 200, "then": ["convert_jpeg"]}
    turn = {"op": "rotate", "angle": 90}
    whole, part = seconds({**BLUR, "then": ["convert_jpeg"]}), seconds({**BLUR, "then": [crop]})
    assert part < whole / 3
    turned = seconds({**BLUR, "then": [{**turn, "then": [crop]}]})
    assert turned > whole * 0.8, "what is turned is in memory as a whole before"


def test_steps_change_what_a_file_takes() -> None:
    plain = file_bytes("convert_jpeg")
    assert file_bytes({**BLUR, "then": ["convert_jpeg"]}) < plain / 2
    png, grey = (file_bytes(node) for node in ("convert_png", {"op": "grayscale", "then": ["convert_png"]}))
    assert grey < png / 2
    half = file_bytes({"op": "resize", "width": 1000, "then": ["convert_jpeg"]})
    assert plain / 4 < half < plain, "detail gets closer together"
    better, worse = (file_bytes({"op": "convert_webp", "quality": quality}) for quality in (90, 50))
    assert worse < better / 2


def test_a_search_costs_as_many_files_as_it_tries() -> None:
    once, searched = seconds("convert_avif"), seconds(SEARCHED)
    assert 4 * once < searched < 9 * once
    assert seconds({**SEARCHED, "max_bytes": 10_000_000}) == once, "the first one fits"
    assert seconds({"op": "convert_avif", "min_ssim": 0.97}) > 5 * once


def test_a_divided_decode_needs_less_memory() -> None:
    tree = {"op": "resize", "width": 400, "then": ["convert_jpeg"]}
    divided, whole = (predicted({**tree, "linear": linear}) for linear in (False, True))
    assert (whole.memory_bytes or 0) - (divided.memory_bytes or 0) > 2 * PIXELS
