"""The widths of a set: pure arithmetic, also used by code that does not decode pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import TargetUnreachable
from app.formats import FORMATS
from app.imaging.geometry import SHRINKS, Size
from app.parameters import WebParams

DEFAULT_WIDTHS = (320, 640, 1280, 1920)
ANY_WIDTH = "{width}"  # stands in names for a width that depends on the pixels
MANIFEST, PICTURE = "manifest.json", "picture.html"  # suffixes of the two files that list the images
GUESSES = 4  # widths estimated from known sizes before the search continues by bisection
TRIALS = 8  # attempts to find one width; after that, one more image is better than a closer fit

BytesOf = Callable[[int], int]


@dataclass(frozen=True)
class Breakpoints:
    """The widths of a set."""

    #: ascending
    widths: tuple[int, ...]
    #: widths that were asked for and are above the image's own, which replaces them
    capped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outline:
    """One file of a set that will be written."""

    #: end of its name
    suffix: str
    format: str
    #: None: the file is not an image, or its size depends on the pixels
    size: Size | None = None


def asked(params: WebParams) -> tuple[int, ...] | None:
    """The requested widths, ascending; None: `bytes_step` chooses them."""
    if params.bytes_step is not None:
        return None
    if params.dpr is not None and params.width is not None:
        return tuple(sorted({math.floor(params.width * ratio + 0.5) for ratio in params.dpr}))
    return tuple(sorted(set(params.widths or DEFAULT_WIDTHS)))


def fixed(params: WebParams, own: int) -> Breakpoints | None:
    """The widths for an image that is `own` pixels wide; None: `bytes_step` chooses them."""
    widths = asked(params)
    if widths is None:
        return None
    capped = tuple(width for width in widths if width > own)
    return Breakpoints(tuple(sorted({min(width, own) for width in widths})), capped)


def bounds(params: WebParams, own: int) -> tuple[int, int]:
    """The smallest and the largest width that `bytes_step` may choose for an image that is `own` pixels wide."""
    return min(params.least_width, own), min(params.most_width, own)


def largest(params: WebParams, own: Size) -> Size:
    """The size of the largest image of a set."""
    found = fixed(params, own[0])
    width = found.widths[-1] if found else bounds(params, own[0])[1]
    return width, height_of(width, own)


def height_of(width: int, own: Size) -> int:
    """The height for a width, in the proportions of the image."""
    return max(1, round(own[1] * width / own[0]))


def on_load(size: Size, params: WebParams) -> tuple[int, None]:
    """The factor by which the decoder may shrink an image of this size; None: `web` itself does the rest."""
    widths = asked(params)
    most = widths[-1] if widths else params.most_width
    return next((shrink for shrink in SHRINKS if size[0] // shrink >= most), 1), None


def outlines(params: WebParams, own: Size | None) -> tuple[Outline, ...]:
    """The files of a set.

    Args:
        params: parameters of the operation.
        own: width and height of the image; None: not known yet.
    """
    found = fixed(params, own[0]) if own else None
    images: list[tuple[str, str, Size | None]]
    if found and own:
        sizes = [(width, height_of(width, own)) for width in found.widths]
        images = [(format_, str(size[0]), size) for size in sizes for format_ in params.formats]
    else:
        images = [(format_, ANY_WIDTH, None) for format_ in params.formats]
    return (
        *(Outline(f"{width}.{FORMATS[format_].extension}", format_, size) for format_, width, size in images),
        Outline(MANIFEST, "json"),
        Outline(PICTURE, "html"),
    )


def by_steps(bytes_of: BytesOf, least: int, most: int, step: int, images: int) -> tuple[int, ...]:
    """Widths for which each file is at most `step` bytes larger than the next smaller one.

    A browser that needs slightly more than one width loads the next one, and wastes at most one step. The number of
    widths is that of equal steps in bytes, or one more for each step that no width meets exactly.

    Args:
        bytes_of: returns the size of the file with a width; called at least once for each width that is tried.
        least: the smallest width.
        most: the largest width.
        step: bytes.
        images: largest number of widths.

    Raises:
        TargetUnreachable: more widths are needed, or one pixel of width takes more than a step.
    """
    found = [most]
    while found[-1] > least:
        rest = bytes_of(found[-1]) - bytes_of(least)
        needed = max(1, math.ceil(rest / step))
        if len(found) + needed > images:
            message = (
                f"`max_images` of {images} is too few: steps of at most {step} bytes between {least} and {most} pixels "
                f"of width need at least {len(found) + needed} images."
            )
            raise TargetUnreachable(message, limit=images, value=len(found) + needed)
        found.append(least if needed == 1 else _next(bytes_of, least, found[-1], step, needed))
    return tuple(reversed(found))


def _next(bytes_of: BytesOf, least: int, current: int, step: int, needed: int) -> int:
    """The next smaller width; if possible one from which `needed` steps lead down to the smallest width."""
    own = bytes_of(current)
    rest = own - bytes_of(least)
    low, high, found = least, current, None  # the step to `low` is too large, the one to `high` is within the limit
    for trial in range(math.ceil(math.log2(current)) + GUESSES):
        if high - low <= 1 or (found is not None and trial >= TRIALS):
            break
        width = _guess(bytes_of, low, high, own - rest // needed) if trial < GUESSES else (low + high) // 2
        gap = own - bytes_of(width)
        if gap > step:
            low = width
            continue
        high = found = width
        if rest - gap <= (needed - 1) * step:
            return width
    if found is None:
        message = (
            f"`bytes_step` of {step} is too small: below {current} pixels of width, one pixel takes more than that."
        )
        raise TargetUnreachable(message, limit=step, value=own - bytes_of(current - 1))
    return found


def _guess(bytes_of: BytesOf, low: int, high: int, wanted: int) -> int:
    """The width between two others whose file probably has `wanted` bytes, if bytes grow as a power of the width."""
    small, large = bytes_of(low), bytes_of(high)
    if not 0 < small < wanted < large:
        return (low + high) // 2
    power = math.log(large / small) / math.log(high / low)
    guess = round(float(high * (wanted / large) ** (1 / power)))
    return min(max(guess, low + 1), high - 1)
