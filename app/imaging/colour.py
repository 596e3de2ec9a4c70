"""Colour conversion."""

import pyvips

DEVICE_COLOURS = {"srgb", "rgb", "rgb16", "b-w", "grey16", "cmyk"}  # that a profile gives a meaning to
GREY_BANDS = 2  # grey and alpha
COLOUR_BANDS = 4  # red, green, blue and alpha


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """The image in 8-bit sRGB, or in 8-bit grey if it is grey; alpha stays, further channels do not.

    Where the profile does not fit the pixels, libvips takes the usual one for their model, as browsers do.
    """
    grey = image.bands <= GREY_BANDS
    if image.get_typeof("icc-profile-data") and image.interpretation in DEVICE_COLOURS:
        image = image.icc_transform("srgb", embedded=True, intent="perceptual")
    image = image.colourspace("b-w" if grey else "srgb")
    return image.extract_band(0, n=min(image.bands, COLOUR_BANDS))
