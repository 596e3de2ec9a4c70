"""Random operation trees."""

import random
from collections.abc import Callable
from typing import Any

ENCODERS = ("convert_webp", "convert_jpeg", "convert_png", "convert_avif")
SETS = 0.15  # share of ends that are a set


def _resize(chance: random.Random) -> dict[str, Any]:
    sides = chance.choice([("width",), ("height",), ("width", "height")])
    node: dict[str, Any] = {"op": "resize", **{side: chance.randint(40, 1500) for side in sides}}
    if len(sides) > 1:
        node["fit"] = chance.choice(["inside", "outside", "cover", "contain", "fill"])
    return node | {"enlarge": chance.random() < 0.3, "linear": chance.random() < 0.1}


def _crop(chance: random.Random) -> dict[str, Any]:
    return {"op": "crop", "width": chance.randint(30, 900), "height": chance.randint(30, 900)}


def _rotate(chance: random.Random) -> dict[str, Any]:
    return {"op": "rotate", "angle": chance.choice([90, 180, -90, round(chance.uniform(-180, 180), 2)])}


MAKERS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    *(_resize, _resize, _resize, _crop, _rotate),
    lambda _: {"op": "flip"},
    lambda _: {"op": "grayscale"},
    lambda chance: {"op": "blur", "sigma": round(chance.uniform(0.5, 8), 1)},
    lambda _: {"op": "sharpen"},
)


Ends = Callable[[random.Random], Any]


def encoder(chance: random.Random) -> Any:
    """A random encoder, for a branch that ends with one file."""
    name = chance.choice(ENCODERS)
    return name if name == "convert_png" or chance.random() < 0.5 else {"op": name, "quality": chance.randint(40, 90)}


def encoder_or_set(chance: random.Random) -> Any:
    """A random encoder, or the operation `web` with fixed widths, for a branch that ends with a set of files."""
    if chance.random() >= SETS:
        return encoder(chance)
    formats = chance.sample(["avif", "webp", "jpeg"], chance.randint(1, 3))
    widths = [chance.randint(60, 1600) for _ in range(chance.randint(1, 4))]
    return {"op": "web", "widths": widths, "formats": formats}


def _node(chance: random.Random, depth: int, end: Ends) -> Any:
    if depth == 0 or chance.random() < 0.3:
        return end(chance)
    node = chance.choice(MAKERS)(chance)
    if chance.random() < 0.2:
        node["keep"] = True
    node["then"] = [_node(chance, depth - 1, end) for _ in range(chance.choice([1, 1, 2]))]
    return node


def random_tree(chance: random.Random, end: Ends = encoder) -> list[Any]:
    """A tree with one to three top-level branches, up to four operations deep; `end` makes the last ones."""
    return [_node(chance, chance.randint(0, 3), end) for _ in range(chance.choice([1, 1, 2, 3]))]
