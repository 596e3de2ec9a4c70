"""Applies the colour information in the boxes of AVIF and HEIC files, which libheif ignores."""

from pathlib import Path

import pyvips

from app.errors import InvalidUpload
from app.imaging.colours import cicp
from app.imaging.colours.colour import PROFILE, full_scale
from app.imaging.metadata.notes import noted
from app.imaging.probe.colours import read_colours
from app.imaging.probe.reader import Reader


def with_meaning(image: pyvips.Image, path: Path) -> pyvips.Image:
    """The image with straight alpha, and with a profile if its colours are not sRGB."""
    with path.open("rb") as file:
        try:
            colours = read_colours(Reader(file))
        except InvalidUpload:  # no colour box can be found
            return image
    if colours.premultiplied and image.hasalpha():
        image = _straight(image)
    if colours.cicp and not image.get_typeof(PROFILE):
        image = _profiled(image, *colours.cicp)
    return image


def _straight(image: pyvips.Image) -> pyvips.Image:
    straight = image.unpremultiply(max_alpha=full_scale(image)).rint().cast(image.format)
    return straight.copy(interpretation=image.interpretation)


def _profiled(image: pyvips.Image, primaries: int, transfer: int) -> pyvips.Image:
    if cicp.is_usual(primaries, transfer):
        return image
    if image.bands < 3:
        return image
    profile = cicp.profile(primaries, transfer)
    if profile is None:
        return noted(image, "profile", "unread", name=f"CICP {primaries}/{transfer}")
    if transfer in cicp.HIGH_DYNAMIC_RANGE:
        image = noted(image, "dynamic_range", "format", name=cicp.HIGH_DYNAMIC_RANGE[transfer])
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, PROFILE, profile)
    return image
