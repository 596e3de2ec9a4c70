"""Colour conversion."""

from collections.abc import Callable

import pyvips

DEVICE_COLOURS = {"srgb", "rgb", "rgb16", "b-w", "grey16", "cmyk"}  # that a profile gives a meaning to
GREY_BANDS = 2  # grey and alpha
COLOUR_BANDS = 4  # red, green, blue and alpha
OPAQUE = 255
CHROMA = {"auto": "auto", "4:2:0": "on", "4:4:4": "off"}  # names that libvips has for subsampling


def to_srgb(image: pyvips.Image, *, deep: bool = False) -> pyvips.Image:
    """The image in sRGB, or in grey if it is grey; alpha stays, further channels do not.

    It has 8 bits per channel, or 16 if the image has them and `deep` asks to keep them.

    Where the profile does not fit the pixels, libvips takes the usual one for their model, as browsers do.
    """
    grey = image.bands <= GREY_BANDS
    deep = deep and image.format == "ushort"
    if image.get_typeof("icc-profile-data") and image.interpretation in DEVICE_COLOURS:
        image = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=16 if deep else 8)
    image = image.colourspace(("grey16" if grey else "rgb16") if deep else ("b-w" if grey else "srgb"))
    return image.extract_band(0, n=min(image.bands, COLOUR_BANDS))


def to_eight_bits(image: pyvips.Image) -> pyvips.Image:
    """The same sRGB or grey image with 8 bits per channel."""
    if image.format == "uchar":
        return image
    return image.colourspace("b-w" if image.bands <= GREY_BANDS else "srgb")


def with_background(image: pyvips.Image, colour: str) -> tuple[pyvips.Image, list[float]]:
    """The image and a colour that can stand beside its pixels.

    Args:
        image: sRGB or grey, of 8 or 16 bit.
        colour: `#rrggbb` or `#rrggbbaa`.

    Returns:
        The image, with alpha where the colour needs it and in colour where the colour is not grey; and the value of the
        colour in each of its channels.
    """
    red, green, blue, alpha = bytes.fromhex(colour.removeprefix("#").ljust(8, "f"))
    if image.bands <= GREY_BANDS and not red == green == blue:
        image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
    if alpha != OPAQUE and not image.hasalpha():
        image = image.addalpha()
    values = [red, alpha] if image.bands <= GREY_BANDS else [red, green, blue, alpha]
    return image, [value * full_scale(image) / OPAQUE for value in values[: image.bands]]


def full_scale(image: pyvips.Image) -> int:
    """The number that stands for white, and for opaque."""
    return 65535 if image.format == "ushort" else 255


def with_weighed_colours(image: pyvips.Image, work: Callable[[pyvips.Image], pyvips.Image]) -> pyvips.Image:
    """Do work that mixes pixels so that transparent ones do not colour their neighbours."""
    if not image.hasalpha():
        return work(image)
    return work(image.premultiply()).unpremultiply()
