"""Which part of an image is kept, and where a smaller one is put."""

from collections.abc import Sequence

import pyvips

_VERTICAL = {"north": 0.0, "south": 1.0}
_HORIZONTAL = {"west": 0.0, "east": 1.0}


def offset(free: tuple[int, int], gravity: str) -> tuple[int, int]:
    """What of the free space lies left of and above what is placed by a compass point."""
    across = next((share for name, share in _HORIZONTAL.items() if gravity.endswith(name)), 0.5)
    down = next((share for name, share in _VERTICAL.items() if gravity.startswith(name)), 0.5)
    return round(free[0] * across), round(free[1] * down)


def cut(image: pyvips.Image, size: tuple[int, int], gravity: str, focal_point: Sequence[float] | None) -> pyvips.Image:
    """The part of an image that is kept.

    Args:
        image: the image.
        size: width and height of the part; no larger than the image.
        gravity: a compass point, `center` or `attention`.
        focal_point: goes before gravity; it comes as near to the middle of the part as the image's border allows.
    """
    free = image.width - size[0], image.height - size[1]
    if focal_point is None and gravity == "attention":
        image = image.copy_memory()  # looked at before it is cut
        _, found = image.smartcrop(*size, interesting="attention", attention_x=True, attention_y=True)
        focal_point = found["attention_x"] / image.width, found["attention_y"] / image.height
    if focal_point is None:
        return image.crop(*offset(free, gravity), *size)
    left, top = focal_point[0] * image.width - size[0] / 2, focal_point[1] * image.height - size[1] / 2
    return image.crop(min(max(0, round(left)), free[0]), min(max(0, round(top)), free[1]), *size)
