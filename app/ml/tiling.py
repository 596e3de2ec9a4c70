"""Cutting an image into windows that a convolutional network can work on one after the other, exactly.

A result depends on the pixels within `halo` of it. Each window therefore reads so many more pixels than its valid part
has, unless the image ends there: there the network pads with zeros, as it does at the border of the whole image. So the
windows' results are those of the whole image, and nothing needs to be blended.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A half-open range of rows or columns that is read, and the part of it whose results are valid."""

    begin: int
    end: int
    valid_begin: int
    valid_end: int


def windows(size: int, length: int, halo: int, align: int = 1) -> list[Window]:
    """Windows along one axis, as even as possible.

    All of them have the same length; where they are aligned, the last one ends with the image and may be up to
    `align - 1` pixels longer.

    Args:
        size: of the image along this axis, in pixels.
        length: the longest window; must be longer than two halos.
        halo: pixels read around the valid ones; a multiple of `align`.
        align: windows begin at multiples of it.
    """
    if size <= length:
        return [Window(0, size, 0, size)]
    length -= length % align
    if length <= 2 * halo:
        raise ValueError(f"a window of {length} pixels is all halo")
    inner = size - 2 * halo  # valid pixels, not counting what the windows at the borders answer for beyond
    count = math.ceil(inner / (length - 2 * halo))
    step = _up(math.ceil(inner / count), align)
    length = step + 2 * halo
    begins = [min(index * step, (size - length) // align * align) for index in range(count)]
    ends = [begin + length - halo for begin in begins[:-1]] + [size]
    return [
        Window(begin, size if valid_end == size else begin + length, valid_begin, valid_end)
        for begin, valid_begin, valid_end in zip(begins, [0, *ends[:-1]], ends, strict=True)
    ]


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
