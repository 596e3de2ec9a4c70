"""Cuts an image into windows for a convolutional network, so that the result equals that for the whole image.

The result for a pixel depends on all pixels within a distance of `halo`. Each window therefore reads that many more
pixels on each side of its valid part, except at the border of the image: there the network pads with zeros, as it would
for the whole image. No blending is needed.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A half-open range of rows or columns to read, and the part of it with valid results."""

    begin: int
    end: int
    valid_begin: int
    valid_end: int


def windows(size: int, length: int, halo: int, align: int = 1) -> list[Window]:
    """Windows along one axis, as even as possible.

    All have the same length, except that the last one, which ends with the image, may be up to `align - 1` pixels
    longer.

    Args:
        size: size of the image along this axis, in pixels.
        length: longest window; more than two halos.
        halo: pixels to read on each side of the valid ones; a multiple of `align`.
        align: windows begin at multiples of this number of pixels.

    Raises:
        ValueError: `length` is too short.
    """
    if size <= length:
        return [Window(0, size, 0, size)]
    length -= length % align
    if length <= 2 * halo:
        raise ValueError(f"a window of {length} pixels is all halo")
    inner = size - 2 * halo  # valid pixels, without the halo at both borders, which is valid there too
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
