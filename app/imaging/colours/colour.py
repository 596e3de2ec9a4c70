"""Colour conversion."""

from collections.abc import Callable

import pyvips

from app.imaging.colours.icc import is_rgb, is_sound

PROFILE = "icc-profile-data"
RGB = {"srgb", "rgb", "rgb16"}
DEVICE_COLOURS = {"srgb", "rgb", "rgb16", "b-w", "grey16", "cmyk"}  # interpretations that an ICC profile applies to
GREY_BANDS = 2  # grey and alpha
COLOUR_BANDS = 4  # red, green, blue and alpha
OPAQUE = 255
CHROMA = {"auto": "auto", "4:2:0": "on", "4:4:4": "off"}  # libvips' names for subsampling


def has_usable_profile(image: pyvips.Image) -> bool:
    """Whether an image's ICC profile can be applied to its pixels.

    This is tried on one pixel, because libvips would fail only when the result is written.
    """
    profile = image.get(PROFILE)
    model = b"CMYK" if image.interpretation == "cmyk" else b"GRAY" if image.bands <= GREY_BANDS else b"RGB "
    if not is_sound(profile, model):
        return False
    pixel = pyvips.Image.black(1, 1, bands=image.bands).cast(image.format).copy(interpretation=image.interpretation)
    pixel.set_type(pyvips.GValue.blob_type, PROFILE, profile)
    try:
        _converted(pixel, deep=False).avg()
        if is_rgb(profile):
            from_srgb(pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb"), pixel).avg()
    except pyvips.Error:
        return False
    return True


def to_working(image: pyvips.Image, *, deep: bool = False) -> pyvips.Image:
    """Convert an image to grey, or to RGB in the colours of its profile; alpha is kept, further channels are dropped.

    It has 8 bits per channel, or 16 if the image has them and `deep` is set. The conversion to sRGB waits until the
    result is written: it is cheaper on the smaller image, and not needed at all if the result keeps the profile.

    If the profile does not fit the pixels, libvips uses the default one for their colour model, as browsers do.
    """
    grey = image.bands <= GREY_BANDS
    deep = deep and image.format == "ushort"
    has_profile = bool(image.get_typeof(PROFILE))
    keeps_profile = has_profile and image.interpretation in RGB and is_rgb(image.get(PROFILE))
    if has_profile and not keeps_profile:
        if image.interpretation in DEVICE_COLOURS:
            image = _converted(image, deep=deep)
        image = without_profile(image)
    image = image.colourspace(("grey16" if grey else "rgb16") if deep else ("b-w" if grey else "srgb"))
    image = image.extract_band(0, n=min(image.bands, COLOUR_BANDS))
    # libvips converts CMYK without a profile by its own one, and leaves that on the RGB pixels
    return image if keeps_profile else without_profile(image)


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """A working image converted to sRGB or grey, without profile."""
    if not image.get_typeof(PROFILE):
        return image
    space = image.interpretation
    return without_profile(_converted(image, deep=image.format == "ushort").copy(interpretation=space))


def without_profile(image: pyvips.Image) -> pyvips.Image:
    """The image without its profile; pixel values do not change."""
    if not image.get_typeof(PROFILE):
        return image
    image = image.copy()
    image.remove(PROFILE)
    return image


def _converted(image: pyvips.Image, *, deep: bool) -> pyvips.Image:
    return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=16 if deep else 8)


def to_eight_bits(image: pyvips.Image) -> pyvips.Image:
    """An sRGB or grey image with 8 bits per channel."""
    if image.format == "uchar":
        return image
    return image.colourspace("b-w" if image.bands <= GREY_BANDS else "srgb")


def with_background(image: pyvips.Image, colour: str) -> tuple[pyvips.Image, list[float]]:
    """An image and a background colour with the same channels.

    Args:
        image: RGB or grey, of 8 or 16 bits.
        colour: `#rrggbb` or `#rrggbbaa`, in sRGB.

    Returns:
        The image, with an alpha channel added if the colour is not opaque, and converted from grey to RGB if the colour
        is not grey; and the colour's value for each of its channels.
    """
    *rgb, alpha = bytes.fromhex(colour.removeprefix("#").ljust(8, "f"))
    pixel = (pyvips.Image.black(1, 1, bands=3) + rgb).cast("uchar").copy(interpretation="srgb")
    red, green, blue = from_srgb(pixel, image).getpoint(0, 0)
    if image.bands <= GREY_BANDS and not red == green == blue:
        image = image.colourspace("rgb16" if image.format == "ushort" else "srgb")
    if alpha != OPAQUE and not image.hasalpha():
        image = image.addalpha()
    values = [red, alpha] if image.bands <= GREY_BANDS else [red, green, blue, alpha]
    return image, [value * full_scale(image) / OPAQUE for value in values[: image.bands]]


def from_srgb(image: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    """An sRGB image, three channels of 8 bits, converted to the profile of `like`; unchanged if that has none."""
    if not like.get_typeof(PROFILE):
        return image
    image = image.icc_import(input_profile="srgb", intent="perceptual").copy()
    image.set_type(pyvips.GValue.blob_type, PROFILE, like.get(PROFILE))
    return image.icc_export(intent="perceptual", depth=8)


def full_scale(image: pyvips.Image) -> int:
    """The channel value of white, and of opaque."""
    return 65535 if image.format == "ushort" else 255


def with_weighed_colours(image: pyvips.Image, work: Callable[[pyvips.Image], pyvips.Image]) -> pyvips.Image:
    """Run a function that mixes pixels on premultiplied ones: transparent pixels must not tint their neighbours."""
    if not image.hasalpha():
        return work(image)
    return work(image.premultiply()).unpremultiply()
