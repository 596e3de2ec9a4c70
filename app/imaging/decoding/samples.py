"""Converts the sample types of TIFF to 8 or 16 bits, or refuses them."""

from pathlib import Path

import pyvips

from app.errors import UnsupportedImage
from app.imaging.colours.colour import GREY_BANDS
from app.imaging.metadata.notes import noted

WHITE = 65535
SCALES = {"uint": WHITE / (2**32 - 1), "float": WHITE, "double": WHITE}  # factors from the sample type to 16 bits
SHOWN = {"b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband"}  # colour models of images converted here
SIGNED = {"char", "short", "int"}
TOLERATED = 0.5  # excess over 0..1 that is clipped: resampling overshoots at edges
NOTICEABLE = 1 / 512
OUT_OF_RANGE = "samples out of range"  # libvips' words for 64 bit and complex numbers


def shown(image: pyvips.Image, _path: Path | None = None) -> pyvips.Image:
    """The image with 8 or 16 bits per channel; in floating-point samples, 0 is black and 1 is white.

    Samples count as values in the image's profile, or in sRGB without one, as in ImageMagick and GIMP.

    Raises:
        UnsupportedImage: the sample type cannot be shown as a picture.
    """
    if image.interpretation not in SHOWN or image.format in {"uchar", "ushort"}:
        return image
    if image.format in SIGNED:
        raise UnsupportedImage(
            "The TIFF file holds signed integers; convert them to unsigned ones or to floats from 0 to 1."
        )
    if image.format not in SCALES:
        raise unsupported()
    if image.format != "uint":
        image = _checked(image.copy_memory())
    scaled = (image * SCALES[image.format] + 0.5).cast("ushort")  # the cast clips
    return scaled.copy(interpretation="grey16" if image.bands <= GREY_BANDS else "rgb16")


def unsupported() -> UnsupportedImage:
    return UnsupportedImage(
        "The TIFF file holds numbers that cannot be shown; convert them to unsigned integers of 8 or 16 bit or floats "
        "of 32 bit from 0 (black) to 1 (white)."
    )


def _checked(image: pyvips.Image) -> pyvips.Image:
    if image.relational(image, "noteq").max():
        raise UnsupportedImage("The TIFF file holds pixels that are not numbers (NaN).")
    low, high = image.min(), image.max()
    if low < -TOLERATED or high > 1 + TOLERATED:
        raise UnsupportedImage(
            f"The floats in the TIFF file reach from {low:g} to {high:g}; 0 has to be black and 1 white.",
            limit=1,
            value=high if high > 1 + TOLERATED else low,
        )
    if low < -NOTICEABLE or high > 1 + NOTICEABLE:
        image = noted(image, "range", "format", minimum=round(low, 4), maximum=round(high, 4))
    return image
