"""The size of an image after an operation: pure arithmetic, which processes without a decoder use as well."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.parameters import CropParams, ResizeParams, RotateParams

Size = tuple[int, int]

SHRINKS = (8, 4, 2)  # factors by which JPEG decoders can shrink, at a fraction of the work
QUARTER = 90  # degrees
DIGITS = 6  # decimals of an angle in degrees: smaller turns move no pixel, and -1e-20 % 360 is 360


@dataclass(frozen=True)
class Geometry:
    """The geometry of a resize: the image is scaled as a whole, then cut or padded."""

    #: size of the whole image after scaling
    scaled: Size
    #: size of the part that is kept
    size: Size
    #: the size to which it is padded
    canvas: Size
    #: largest divisor for the decoder that leaves at least `scaled` pixels
    shrink: int


def measure(width: int, height: int, params: ResizeParams) -> Geometry:
    """The geometry for an image of this size."""
    scale = _scale(width, height, params)
    scaled = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
    size = canvas = scaled
    if params.fit == "cover":
        size = canvas = min(scaled[0], params.width or scaled[0]), min(scaled[1], params.height or scaled[1])
    elif params.fit == "contain":
        canvas = max(scaled[0], params.width or scaled[0]), max(scaled[1], params.height or scaled[1])
    # decoders do not average in linear light
    shrinks = () if params.linear else SHRINKS
    fitting = (shrink for shrink in shrinks if width // shrink >= scaled[0] and height // shrink >= scaled[1])
    return Geometry(scaled, size, canvas, next(fitting, 1))


def _scale(width: int, height: int, params: ResizeParams) -> tuple[float, float]:
    horizontal = params.width / width if params.width else None
    vertical = params.height / height if params.height else None
    wanted = [scale for scale in (horizontal, vertical) if scale is not None]
    if params.fit != "fill" or len(wanted) == 1:
        wanted = [min(wanted) if params.fit in {"inside", "contain"} else max(wanted)] * 2
    if not params.enlarge:
        wanted = [min(scale, 1.0) for scale in wanted]
    return wanted[0], wanted[1]


def turn(params: RotateParams) -> float:
    """The angle in degrees clockwise, at least 0 and less than 360."""
    return round(params.angle, DIGITS) % 360


def _cropped(size: Size, params: CropParams) -> Size:
    if params.left is not None:
        return params.width, params.height
    return min(params.width, size[0]), min(params.height, size[1])


def _turned(size: Size, params: RotateParams) -> Size:
    angle = turn(params)
    if angle % QUARTER == 0:
        return size if angle % (2 * QUARTER) == 0 else (size[1], size[0])
    across, down = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    # as libvips does it: the sides of the rectangle around the turned corners, to the nearest pixel
    return round(size[0] * across + size[1] * down), round(size[0] * down + size[1] * across)


def _resized(size: Size, params: ResizeParams) -> Size:
    return measure(*size, params).canvas


#: functions from the size before an operation to the size after it; other operations keep the size
SIZES: dict[str, Callable[[Size, Any], Size | None]] = {
    "resize": _resized,
    "crop": _cropped,
    "rotate": _turned,
    "trim": lambda _size, _params: None,  # unknown: it depends on the pixels
}


def size_after(op: str, size: Size | None, params: Any) -> Size | None:
    """The size in pixels after an operation; None if it depends on the pixels."""
    if size is None or op not in SIZES:
        return size
    return SIZES[op](size, params)
