"""ThumbHash, byte for byte as the reference implementation makes it: thumbhash.mjs has recorded that."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.imaging.responsive import thumbhash

RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("thumbhash.json").read_text())


def _pixels(width: int, height: int, kind: str) -> bytes:
    """The same whole numbers as `pixels` of thumbhash.mjs."""
    rgba = bytearray()
    for y in range(height):
        for x in range(width):
            noise = (x * x * 7 + y * x * 13 + y * 31) % 61
            alpha = {"opaque": 255, "flat": 255, "clear": 0, "fading": x * 255 // max(1, width - 1)}
            varied = [x * 190 // width + noise, y * 150 // height + noise, 200 - 3 * noise]
            colour = [90, 120, 200] if kind == "flat" else varied
            rgba += bytes([*colour, alpha.get(kind, 255 if noise % 3 else 0)])
    return bytes(rgba)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case['kind']}-{case['width']}x{case['height']}")
def test_the_hash_is_that_of_the_reference(case: dict[str, Any]) -> None:
    width, height = case["width"], case["height"]
    assert thumbhash.encode(width, height, _pixels(width, height, case["kind"])).hex() == case["hash"]


def test_a_larger_image_is_refused() -> None:
    with pytest.raises(ValueError, match="100x100"):
        thumbhash.encode(101, 1, bytes(404))
