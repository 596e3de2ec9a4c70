"""ThumbHash: a placeholder of about 25 bytes, byte for byte equal to that of github.com/evanw/thumbhash."""

import math
from functools import lru_cache

import numpy as np

from app.imaging.responsive.channels import Channel, total
from app.imaging.responsive.cosine import cos

MAX_SIDE = 100  # pixels; a larger image is slower and gives no better hash


def encode(width: int, height: int, rgba: bytes) -> bytes:
    """The hash of an image.

    Args:
        width: pixels, at most 100.
        height: pixels, at most 100.
        rgba: four bytes for each pixel, row by row.
    """
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"{width}x{height} does not fit into {MAX_SIDE}x{MAX_SIDE}")
    red, green, blue, opacity = np.frombuffer(rgba, np.uint8).reshape(-1, 4).T.astype(np.float64)
    alpha = opacity / 255
    opaque = total(alpha)
    colours = []
    for values in (red, green, blue):
        average = total(alpha / 255 * values) / (opaque or 1.0)
        colours.append(average * (1 - alpha) + alpha / 255 * values)  # composited over the average colour
    red, green, blue = colours
    has_alpha, is_landscape = opaque < width * height, width > height

    longest = 5 if has_alpha else 7  # alpha leaves fewer bits for lightness
    across, down = (max(1, _round(longest * side / max(width, height))) for side in (width, height))
    size = width, height
    l_dc, l_ac, l_scale = _coefficients((red + green + blue) / 3, size, max(3, across), max(3, down))
    p_dc, p_ac, p_scale = _coefficients((red + green) / 2 - blue, size, 3, 3)
    q_dc, q_ac, q_scale = _coefficients(red - green, size, 3, 3)

    first = _round(63 * l_dc) | _round(31.5 + 31.5 * p_dc) << 6 | _round(31.5 + 31.5 * q_dc) << 12
    first |= _round(31 * l_scale) << 18 | has_alpha << 23
    second = (down if is_landscape else across) | _round(63 * p_scale) << 3 | _round(63 * q_scale) << 9
    second |= is_landscape << 15
    hashed = [first & 255, first >> 8 & 255, first >> 16 & 255, second & 255, second >> 8 & 255]
    varying = [*l_ac, *p_ac, *q_ac]
    if has_alpha:
        a_dc, a_ac, a_scale = _coefficients(alpha, size, 5, 5)
        hashed.append(_round(15 * a_dc) | _round(15 * a_scale) << 4)
        varying += a_ac
    quarters = [_round(15 * factor) for factor in varying]
    quarters += [0] * (len(quarters) % 2)
    return bytes(hashed + [low | high << 4 for low, high in zip(quarters[::2], quarters[1::2], strict=True)])


def _coefficients(channel: Channel, size: tuple[int, int], across: int, down: int) -> tuple[float, list[float], float]:
    """The cosine transform of a channel: its constant, the other factors scaled to 0..1, and their scale."""
    width, height = size
    constant, varying = 0.0, []
    rows = channel.reshape(height, width)
    for cy in range(down):
        fy = _wave(height, cy)
        for cx in range(across):
            if cx * down >= across * (down - cy):
                break
            factor = total(rows * _wave(width, cx) * fy[:, None]) / (width * height)
            if cx or cy:
                varying.append(factor)
            else:
                constant = factor
    scale = max(map(abs, varying), default=0.0)
    if scale:
        varying = [0.5 + 0.5 / scale * factor for factor in varying]
    return constant, varying, scale


@lru_cache(maxsize=500)
def _wave(length: int, halves: int) -> Channel:
    """`halves` half waves of a cosine over a side."""
    return np.array([cos(math.pi / length * halves * (place + 0.5)) for place in range(length)])


def _round(value: float) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(value + 0.5)
