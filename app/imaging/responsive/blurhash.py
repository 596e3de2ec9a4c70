"""BlurHash: a placeholder of about thirty characters (github.com/woltapp/blurhash)."""

import math
from functools import lru_cache

import numpy as np

from app.imaging.responsive.channels import Channel, total

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
MOST_COMPONENTS = 9  # along each side
STEPS = 166  # of the largest factor, of which the hash can hold half
LARGEST_STEP = 82
HALF_LEVELS = 9  # a factor has this many levels below zero, and as many above
LEVELS = 2 * HALF_LEVELS + 1


def encode(width: int, height: int, rgb: bytes, across: int, down: int) -> str:
    """The hash of an image; a few pixels suffice.

    Args:
        width: pixels.
        height: pixels.
        rgb: three bytes of sRGB for each pixel, row by row.
        across: components along the width, 1 to 9.
        down: components along the height, 1 to 9.

    Raises:
        ValueError: a number of components is out of range.
    """
    if not (1 <= across <= MOST_COMPONENTS and 1 <= down <= MOST_COMPONENTS):
        raise ValueError(f"{across}x{down} components; a BlurHash has 1 to {MOST_COMPONENTS} along each side")
    pixels = np.frombuffer(rgb, np.uint8).reshape(height, width, 3)
    channels = np.moveaxis(_linear_bytes()[pixels], 2, 0)
    factors = [
        [total(channel * _wave(width, x, 2.0 if x or y else 1.0) * _wave(height, y)[:, None]) for channel in channels]
        for y in range(down)
        for x in range(across)
    ]
    constant, *varying = np.array(factors) / (width * height)
    largest = max((abs(factor) for factors in varying for factor in factors), default=0.0)
    step = max(0, min(LARGEST_STEP, math.floor(largest * STEPS - 0.5)))
    hashed = [_base83(across - 1 + (down - 1) * MOST_COMPONENTS, 1), _base83(step, 1)]
    hashed.append(_base83(int.from_bytes(bytes(map(_to_srgb, constant))), 4))
    hashed += [_base83(_levels(factors, (step + 1) / STEPS), 2) for factors in varying]
    return "".join(hashed)


def _levels(factors: Channel, scale: float) -> int:
    """The three channels of a component as one number."""
    number = 0
    for factor in factors:
        root = math.copysign(math.sqrt(abs(factor / scale)), factor)
        number = number * LEVELS + max(0, min(LEVELS - 1, math.floor(root * HALF_LEVELS + HALF_LEVELS + 0.5)))
    return number


@lru_cache(maxsize=500)
def _wave(length: int, halves: int, factor: float = 1.0) -> Channel:
    """`halves` half waves of a cosine over a side."""
    return np.array([factor * math.cos(math.pi * halves * place / length) for place in range(length)])


@lru_cache
def _linear_bytes() -> Channel:
    """The linear value of each byte of sRGB."""
    return np.array([to_linear(byte / 255) for byte in range(256)])


def to_linear(value: float) -> float:
    """The linear value of a value of sRGB, both 0 to 1."""
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)


def _to_srgb(value: float) -> int:
    value = max(0.0, min(1.0, value))
    encoded = value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return int(encoded * 255 + 0.5)


def _base83(number: int, digits: int) -> str:
    return "".join(ALPHABET[number // 83**place % 83] for place in reversed(range(digits)))
