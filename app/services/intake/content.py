"""Estimates the size and the amount of detail of an image between the steps of a plan, without reading pixels.

Bytes per pixel are the cheapest measure of detail: a picture with more detail has more of them in any format, and takes
more time to decode and to encode. They are known for the upload; their changes by steps follow rules for photographs.
The constants are fitted by `python -m benchmarks plan`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.imaging.geometry import QUARTER, Size, measure, size_after, turn
from app.operations import BLUR, GRAYSCALE, RESIZE, ROTATE

#: bytes per pixel of a typical upload
TYPICAL = {"jpeg": 0.35, "png": 1.7, "webp": 0.2, "avif": 0.12, "heic": 0.12, "tiff": 2.6, "gif": 0.75}
LEAST, MOST = 0.05, 20.0  # bounds of detail, relative to a typical upload; beyond, the size says little about detail
#: exponents with which detail grows as an image shrinks, and falls as it is blurred
SHRUNK, BLURRED = 0.6, 1.2
ENLARGED = 0.3  # standard deviation of the blur that an image has when it is enlarged, in its own pixels
GREY = 0.7  # detail of a grey image, relative to the same image in colour


@dataclass(frozen=True, kw_only=True)
class Content:
    """The estimated properties of an image."""

    size: Size
    #: bytes per pixel when it is written, relative to a typical photograph
    detail: float = 1.0
    #: standard deviation of the blur, in pixels
    sigma: float = 0.0
    is_grey: bool = False

    @property
    def pixels(self) -> int:
        """Width times height of a frame."""
        return area(self.size)

    @property
    def channels(self) -> int:
        """The number of channels of a pixel, and of its bytes in memory."""
        return 1 if self.is_grey else 3

    @property
    def busyness(self) -> float:
        """The amount of detail that is left after blurs."""
        return self.detail * math.pow(1 + self.sigma, -BLURRED)


def area(size: Size) -> int:
    """The number of pixels."""
    return size[0] * size[1]


def usual_bytes(format_: str, size: Size, frames: int) -> float:
    """The size in bytes of a typical file of a format, with these dimensions and frames."""
    return area(size) * frames * TYPICAL[format_]


def of_upload(format_: str, size: Size, frames: int, bytes_: int | None) -> Content:
    """The content of an upload from its header; without `bytes_`, a typical amount of detail is assumed."""
    if bytes_ is None:
        return Content(size=size)
    ratio = bytes_ / usual_bytes(format_, size, frames)
    return Content(size=size, detail=min(max(ratio, LEAST), MOST))


def after(op: str, params: Any, before: Content | None) -> Content | None:
    """The content after an operation; None if the new size depends on the pixels."""
    size = size_after(op, before.size if before else None, params)
    if before is None or size is None:
        return None
    return CHANGES.get(op, _cut)(before, size, params)


def scaled(content: Content, size: Size) -> Content:
    """The content after scaling: a smaller picture has more detail per pixel, a larger one is blurred."""
    scale = math.sqrt(area(size) / content.pixels)
    if scale <= 1:
        return replace(content, size=size, detail=content.detail * scale**-SHRUNK, sigma=content.sigma * scale)
    return replace(content, size=size, sigma=math.hypot(content.sigma, ENLARGED) * scale)


def _cut(before: Content, size: Size, _params: Any) -> Content:
    return replace(before, size=size)


def _on_canvas(content: Content, size: Size) -> Content:
    """The content with an empty border."""
    return replace(content, size=size, detail=content.detail * min(1.0, content.pixels / area(size)))


def _resized(before: Content, size: Size, params: Any) -> Content:
    geometry = measure(*before.size, params)
    return _on_canvas(_cut(scaled(before, geometry.scaled), geometry.size, params), size)


def _rotated(before: Content, size: Size, params: Any) -> Content:
    return _cut(before, size, params) if turn(params) % QUARTER == 0 else _on_canvas(before, size)


def _blurred(before: Content, size: Size, params: Any) -> Content:
    return replace(before, size=size, sigma=math.hypot(before.sigma, params.sigma))


def _without_colour(before: Content, size: Size, _params: Any) -> Content:
    return before if before.is_grey else replace(before, size=size, detail=before.detail * GREY, is_grey=True)


#: how an operation changes the content, by name; operations that are not listed keep the pixels or crop
CHANGES: dict[str, Callable[[Content, Size, Any], Content]] = {
    RESIZE.name: _resized,
    ROTATE.name: _rotated,
    BLUR.name: _blurred,
    GRAYSCALE.name: _without_colour,
}
