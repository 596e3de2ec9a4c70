"""Crop."""

from collections.abc import Sequence

import pyvips

from app.errors import AreaOutsideImage
from app.imaging import gravity
from app.imaging.recipe import Context
from app.parameters import CropParams


def run(image: pyvips.Image, params: CropParams, _context: Context | None = None) -> pyvips.Image:
    """Cut out a rectangle. One that is placed by gravity is reduced to the size of the image if it is larger.

    Raises:
        AreaOutsideImage: a rectangle with a given corner does not lie within the image.
    """
    if params.left is not None and params.top is not None:
        _check("wide", params.left + params.width, image.width)
        _check("high", params.top + params.height, image.height)
        return image.crop(params.left, params.top, params.width, params.height)
    return gravity.cut(image, _size(image, params), params)


def run_frames(frames: Sequence[pyvips.Image], params: CropParams, _context: Context) -> list[pyvips.Image]:
    """Cut the same rectangle out of every frame; gravity places it by the first frame."""
    settled = gravity.settled(frames[0], _size(frames[0], params), params)
    return [run(frame, settled) for frame in frames]


def _size(image: pyvips.Image, params: CropParams) -> tuple[int, int]:
    return min(params.width, image.width), min(params.height, image.height)


def _check(word: str, end: int, side: int) -> None:
    if end > side:
        raise AreaOutsideImage(
            f"The area ends at pixel {end}, but the image is {side} pixels {word}.", limit=side, value=end
        )
