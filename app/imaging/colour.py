"""Colour conversion."""

import pyvips

DEVICE_COLOURS = {"srgb", "rgb", "rgb16", "b-w", "grey16", "cmyk"}  # that a profile gives a meaning to
GREY_BANDS = 2  # grey and alpha
COLOUR_BANDS = 4  # red, green, blue and alpha


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
