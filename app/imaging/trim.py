"""Trim."""

from collections.abc import Sequence

import pyvips

from app.imaging.colours.colour import OPAQUE, full_scale, with_background
from app.imaging.recipe import Context
from app.parameters import TrimParams

MEDIAN = 3  # width in pixels of the median filter, which ignores single bright pixels


def run(image: pyvips.Image, params: TrimParams, context: Context) -> pyvips.Image:
    """Cut off a border of one colour, and report the area that is kept; an image of only one colour is unchanged."""
    return run_frames([image], params, context)[0]


def run_frames(frames: Sequence[pyvips.Image], params: TrimParams, context: Context) -> list[pyvips.Image]:
    """Cut off the border that all frames share."""
    frames = [frame.copy_memory() for frame in frames]  # the pixels are read twice: to find the border, and to cut it
    left, top, width, height = _union([_found(frame, params) for frame in frames])
    if width == 0 or height == 0:
        left, top, width, height = 0, 0, frames[0].width, frames[0].height
    context.report(left=left, top=top, width=width, height=height)
    return [frame.crop(left, top, width, height) for frame in frames]


def _union(areas: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The smallest area that encloses all areas that are not empty."""
    found = [area for area in areas if area[2] and area[3]]
    if not found:
        return 0, 0, 0, 0
    left, top = min(area[0] for area in found), min(area[1] for area in found)
    right, bottom = max(area[0] + area[2] for area in found), max(area[1] + area[3] for area in found)
    return left, top, right - left, bottom - top


def _found(image: pyvips.Image, params: TrimParams) -> tuple[int, ...]:
    """Left, top, width and height of the area within the border."""
    background = None
    if params.background is not None:
        image, background = with_background(image, params.background)
    if image.hasalpha():
        # Alpha counts like one more colour, and invisible pixels have no colour. Alpha is disguised as a colour band,
        # because libvips would flatten the image onto the background.
        image = image.premultiply().cast(image.format).copy(interpretation="multiband")
    threshold = params.threshold * full_scale(image) / OPAQUE
    return tuple(
        image.find_trim(
            threshold=threshold,
            background=background or image.getpoint(0, 0),
            line_art=min(image.width, image.height) < MEDIAN,  # no median filter: the image is too small
        )
    )
