"""A synthetic photograph, generated from a seed, with the statistics that matter to codecs.

As in a camera's picture, the spectrum falls with frequency (noise in every octave), and there are objects with sharp
edges, smooth areas, correlated channels and sensor noise.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SENSOR_NOISE = 4.0  # standard deviation, on the 8-bit scale
SHAPES = 60
CONTRAST, FALL = 16, 0.85  # amplitude of the noise, and its ratio from one octave to the next
QUALITY = 92  # of JPEG, similar to cameras


def photograph(width: int = 4000, height: int = 3000, seed: int = 1) -> Image.Image:
    """An RGB image; the same arguments give the same pixels."""
    random = np.random.default_rng(seed)
    texture = _octaves(random, width, height)
    objects = _objects(random, width, height)
    pixels = objects + CONTRAST * texture[..., None] * np.array([1.0, 0.93, 0.84], np.float32)
    pixels += random.normal(0, SENSOR_NOISE, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _octaves(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Noise that weakens slightly from octave to octave, and is stronger in some places than in others."""
    total = np.zeros((height, width), np.float32)
    amplitude, cell = 1.0, max(width, height) // 4
    while cell >= 2:
        total += amplitude * _smooth(random, width, height, cell)
        amplitude, cell = amplitude * FALL, cell // 2
    return total * np.clip(0.5 + _smooth(random, width, height, max(width, height) // 6), 0.05, 1.5)


def _smooth(random: np.random.Generator, width: int, height: int, cell: int) -> np.ndarray:
    coarse = random.normal(0, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _objects(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", [image.point(lambda value, low=low: low + value // 3) for low in (70, 90, 120)])
    draw = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        x, y = random.uniform(0, width), random.uniform(0, height)
        across, down = random.uniform(0.01, 0.15, 2) * max(width, height)
        base = random.uniform(30, 220)
        colour = tuple(int(value) for value in np.clip(base + random.normal(0, 25, 3), 0, 255))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x - across, y - down, x + across, y + down), fill=colour)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float32)
