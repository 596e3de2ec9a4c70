"""Common requests of tests, and their results as pictures."""

import io
from typing import Any

from PIL import Image

TREE: list[Any] = [
    "convert_avif",
    {"op": "resize", "width": 320, "then": ["convert_webp", {"op": "convert_png", "as": "hero"}]},
]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
