"""Draws a picture for the docs: a photograph resized with each fit and several gravities of `resize`, with labels.

    python -m benchmarks picture-fits photograph.png docs/images/fits.webp

Every panel is made by the pipeline of the service.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from app.imaging import libvips
from app.imaging.pipeline import render
from app.imaging.recipe import Limits, Stage, Target

BOX = {"width": 220, "height": 130}
CELL = (240, 250)  # width and height in pixels of each panel, with its label
COLUMNS = 4
PANELS: tuple[dict[str, Any], ...] = (
    {"fit": "inside"},
    {"fit": "outside"},
    {"fit": "fill"},
    {"fit": "contain", "background": "#335577"},
    {"fit": "contain", "gravity": "east", "background": "#335577"},
    {"fit": "cover"},
    {"fit": "cover", "gravity": "south"},
    {"fit": "cover", "gravity": "attention"},
)


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    libvips.configure(2)
    rows = -(-len(PANELS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL[0], rows * CELL[1]), "white")
    draw = ImageDraw.Draw(sheet)
    with tempfile.TemporaryDirectory() as name:
        for index, params in enumerate(PANELS):
            panel = Path(name) / f"{index}.png"
            stage = Stage("resize", {**BOX, **params})
            render(source, [stage], [Target(panel, "convert_png", {})], Limits(50_000_000, 16384))
            x, y = index % COLUMNS * CELL[0] + 10, index // COLUMNS * CELL[1]
            draw.text((x, y + 4), ", ".join(str(params[key]) for key in ("fit", "gravity") if key in params), "black")
            with Image.open(panel) as image:
                sheet.paste(image, (x, y + 22))
            draw.rectangle((x - 1, y + 21, x + BOX["width"], y + 22 + BOX["height"]), outline="#d33")
    sheet.save(target, quality=85)
