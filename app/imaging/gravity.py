"""The part of an image that is kept, and the place of a smaller image within a larger one."""

from collections.abc import Sequence
from typing import TypeVar

import pyvips

from app.parameters import CropParams, ResizeParams

_VERTICAL = {"north": 0.0, "south": 1.0}
_HORIZONTAL = {"west": 0.0, "east": 1.0}

Cutting = TypeVar("Cutting", CropParams, ResizeParams)


def offset(free: tuple[int, int], gravity: str) -> tuple[int, int]:
    """The left and top offset in pixels of something placed at a compass point within the free space."""
    across = next((share for name, share in _HORIZONTAL.items() if gravity.endswith(name)), 0.5)
    down = next((share for name, share in _VERTICAL.items() if gravity.startswith(name)), 0.5)
    return round(free[0] * across), round(free[1] * down)


def settled(image: pyvips.Image, size: tuple[int, int], params: Cutting) -> Cutting:
    """The parameters with `attention` turned into the focal point that it finds for a part of this size."""
    if params.focal_point is not None or params.gravity != "attention":
        return params
    _, found = image.smartcrop(*size, interesting="attention", attention_x=True, attention_y=True)
    return params.model_copy(
        update={"focal_point": [found["attention_x"] / image.width, found["attention_y"] / image.height]}
    )


def cut(image: pyvips.Image, size: tuple[int, int], params: Cutting) -> pyvips.Image:
    """Cut out the part to keep: as close around the focal point as the edges allow, or placed by gravity.

    Args:
        image: the image.
        size: width and height of the part; no larger than the image.
        params: parameters whose `focal_point` takes precedence over their `gravity`.
    """
    if params.focal_point is None and params.gravity == "attention":
        image = image.copy_memory()  # the pixels are read twice: to find the crop, and to cut it
        params = settled(image, size, params)
    free = image.width - size[0], image.height - size[1]
    if params.focal_point is None:
        return image.crop(*offset(free, params.gravity), *size)
    left, top = _corner(image, size, params.focal_point)
    return image.crop(min(max(0, left), free[0]), min(max(0, top), free[1]), *size)


def _corner(image: pyvips.Image, size: tuple[int, int], point: Sequence[float]) -> tuple[int, int]:
    return round(point[0] * image.width - size[0] / 2), round(point[1] * image.height - size[1] / 2)
