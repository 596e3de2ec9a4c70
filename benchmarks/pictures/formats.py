"""Draws a picture for the docs: a detail of a photograph in three formats, at equal sizes and at default qualities.

    python -m benchmarks picture-formats astronaut.png docs/images/formats.webp

Every file is made by the pipeline of the service, those of the first row with `max_bytes`. The picture itself is
lossless, because it shows losses.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pyvips
from PIL import Image, ImageDraw, ImageFont

from app.imaging import libvips
from app.imaging.pipeline import render
from app.imaging.recipe import Limits, Target
from app.imaging.ssim import ssim
from app.operations import OPERATIONS

FORMATS = {"convert_jpeg": "JPEG", "convert_webp": "WebP", "convert_avif": "AVIF"}
BITS = 0.4  # per pixel, in the first row
LEFT, TOP, SIDE = 178, 62, 84  # of the detail, in pixels
ENLARGED = 3
CELL = (SIDE * ENLARGED + 12, SIDE * ENLARGED + 44)
RED = "#d33"


def panel(source: Path, folder: Path, op: str, params: dict[str, Any]) -> tuple[Image.Image, str]:
    """The detail of the photograph in a format, and its label."""
    path = folder / op
    render(source, [], [Target(path, op, params)], Limits(50_000_000, 16384))
    result = pyvips.Image.new_from_file(str(path))
    likeness = ssim(pyvips.Image.new_from_file(str(source)), result)
    setting = f"{BITS} bits per pixel" if params else f"quality {OPERATIONS[op].params().quality}"
    label = f"{FORMATS[op]}, {setting}\n{path.stat().st_size:,} bytes, SSIM {likeness:.3f}"
    return enlarged(Image.fromarray(result.numpy())), label


def enlarged(image: Image.Image) -> Image.Image:
    detail = image.crop((LEFT, TOP, LEFT + SIDE, TOP + SIDE))
    return detail.resize((SIDE * ENLARGED, SIDE * ENLARGED), Image.Resampling.NEAREST)


def whole(image: Image.Image) -> Image.Image:
    """The photograph with a frame around the detail."""
    side = SIDE * ENLARGED
    scale = side / image.width
    shown = image.resize((side, round(image.height * scale)), Image.Resampling.LANCZOS)
    box = [value * scale for value in (LEFT, TOP, LEFT + SIDE, TOP + SIDE)]
    ImageDraw.Draw(shown).rectangle(box, outline=RED, width=2)
    return shown


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    libvips.configure(1)
    with Image.open(source) as image:
        original = image.convert("RGB")
    limit = int(original.width * original.height * BITS / 8)
    rows: list[list[tuple[Image.Image, str]]] = [
        [(enlarged(original), f"A detail, {ENLARGED} times enlarged:\nthe original")],
        [(whole(original), f"The photograph,\n{original.width} x {original.height} pixels")],
    ]
    with tempfile.TemporaryDirectory() as name:
        for row, params in zip(rows, ({"max_bytes": limit, "quality": 100}, {}), strict=True):
            row += [panel(source, Path(name), op, params) for op in FORMATS]
    sheet = Image.new("RGB", (len(rows[0]) * CELL[0], len(rows) * CELL[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for y, row in enumerate(rows):
        for x, (shown, label) in enumerate(row):
            draw.text((x * CELL[0] + 6, y * CELL[1] + 4), label, "black", font)
            sheet.paste(shown, (x * CELL[0] + 6, y * CELL[1] + 40))
    sheet.save(target, lossless=True, method=6)
