"""Placeholders, shown until an image is loaded, made from a small version of it."""

import base64
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyvips

from app.imaging.colours.colour import COLOUR_BANDS, GREY_BANDS, full_scale, to_eight_bits, to_srgb
from app.imaging.responsive import blurhash, thumbhash

LOOKED_AT = 64  # pixels of the longer side of the small image for colours and BlurHash
BLURHASH_COMPONENTS = (4, 3)  # along the longer and the shorter side
PREVIEW, PREVIEW_QUALITY = 24, 40  # data URI: longer side in pixels, and WebP quality
PALETTE = 8  # colours from which the dominant one is chosen
BLACK, WHITE = "#000000", "#ffffff"
RED, GREEN, BLUE = 0.2126, 0.7152, 0.0722  # shares in the luminance of sRGB


@dataclass(frozen=True)
class Placeholders:
    """The placeholders of one image, with their names in JSON."""

    lqip: str
    thumbhash: str
    blurhash: str
    dominant_colour: str
    #: colour for text on the dominant colour
    contrast_colour: str

    @classmethod
    def of(cls, image: pyvips.Image) -> "Placeholders":
        """The placeholders of an image of any size; a small image is faster."""
        few = few_pixels(image)
        dominant = dominant_colours(_shrunk(few, LOOKED_AT // 2), PALETTE)[0]["colour"]
        return cls(
            lqip=_data_uri(image),
            thumbhash=base64.b64encode(_thumbhash(image)).decode(),
            blurhash=blurhash_of(few),
            dominant_colour=dominant,
            contrast_colour=contrast(dominant),
        )


def few_pixels(image: pyvips.Image) -> pyvips.Image:
    """The image scaled down to a few pixels in sRGB, on white."""
    few = _shrunk(image, LOOKED_AT)
    if few.hasalpha():
        few = few.flatten(background=full_scale(few))
    return few.colourspace("srgb").copy_memory() if few.bands <= GREY_BANDS else few.copy_memory()


def _shrunk(image: pyvips.Image, side: int) -> pyvips.Image:
    return to_eight_bits(to_srgb(image.thumbnail_image(side, height=side, size="down")))


def dominant_colours(few: pyvips.Image, most: int) -> list[dict[str, Any]]:
    """The dominant colours of an image, and the share of the pixels for each."""
    if most < 1:
        return []
    bits = max(1, (most - 1).bit_length())
    palette = pyvips.Image.gifload_buffer(few.gifsave_buffer(bitdepth=bits, dither=0, effort=10, keep="none"))
    pixels = bytes(palette.extract_band(0, n=3).write_to_memory())
    counted = Counter(zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True))
    total = few.width * few.height
    return [
        {"colour": "#" + bytes(colour).hex(), "share": round(count / total, 4)}
        for colour, count in counted.most_common(most)
    ]


def contrast(colour: str) -> str:
    """Black or white, whichever has the higher contrast ratio on a colour (WCAG 2)."""
    red, green, blue = (blurhash.to_linear(number / 255) for number in bytes.fromhex(colour.removeprefix("#")))
    luminance = RED * red + GREEN * green + BLUE * blue
    return BLACK if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else WHITE


def blurhash_of(few: pyvips.Image) -> str:
    """A placeholder of about thirty characters (github.com/woltapp/blurhash)."""
    across, down = BLURHASH_COMPONENTS if few.width >= few.height else BLURHASH_COMPONENTS[::-1]
    few = few.thumbnail_image(LOOKED_AT // 2, height=LOOKED_AT // 2, size="down")
    return blurhash.encode(few.width, few.height, bytes(few.write_to_memory()), across, down)


def _thumbhash(image: pyvips.Image) -> bytes:
    few = _shrunk(image, thumbhash.MAX_SIDE).colourspace("srgb")
    few = few if few.bands == COLOUR_BANDS else few.addalpha()
    return thumbhash.encode(few.width, few.height, bytes(few.cast("uchar").write_to_memory()))


def _data_uri(image: pyvips.Image) -> str:
    content = _shrunk(image, PREVIEW).webpsave_buffer(Q=PREVIEW_QUALITY, effort=6, keep="none")
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
