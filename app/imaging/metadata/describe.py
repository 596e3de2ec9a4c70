"""Metadata: what a file says, and what can be known from its pixels, as JSON."""

import re
from collections import Counter
from typing import Any

import blurhash
import pyvips

from app.imaging.colours.colour import GREY_BANDS, full_scale, to_eight_bits, to_srgb
from app.imaging.metadata.exif import place, read_exif
from app.imaging.metadata.iptc import read_iptc
from app.imaging.metadata.xmp import read_xmp
from app.imaging.picture import Picture
from app.parameters import MetadataParams

LOOKED_AT = 64  # pixels of the longer side, for colours and blurhash
BLURHASH_COMPONENTS = (4, 3)  # of the longer and of the shorter side
_PLACE = re.compile(r"gps|latitude|longitude|location|^lat$|^long?$", re.IGNORECASE)  # in names without namespace


def describe(picture: Picture, params: MetadataParams) -> dict[str, Any]:
    """What is known about an image; width and height are those of its upright pixels, profile that of the upload."""
    image, origin = picture.first, picture.origin
    exif = read_exif(origin.block("exif-data"))
    gps, xmp = exif.pop("gps", {}), read_xmp(origin.block("xmp-data"))
    iptc, small = read_iptc(origin.block("iptc-data")), _small(image)
    return {
        "format": origin.format,
        "width": image.width,
        "height": image.height,
        "frames": origin.frames,
        "duration_ms": sum(origin.delays) if origin.frames > 1 else None,
        "channels": image.bands,
        "bits": 8 if image.format == "uchar" else 16,
        "alpha": bool(image.hasalpha()),
        "icc_profile": origin.profile,
        "gain_map": origin.gain_map,
        "exif": exif,
        "iptc": iptc if params.gps else _without_places(iptc),
        "xmp": xmp if params.gps else _without_places(xmp),
        **({"gps": {**gps, **place(gps)}} if params.gps else {}),
        "dominant_colours": _dominant_colours(small, params.colours),
        "blurhash": _blurhash(small),
    }


def _without_places(value: Any) -> Any:
    """XMP or IPTC without what says where a photograph was taken, however deep it stands."""
    if isinstance(value, dict):
        return {name: _without_places(item) for name, item in value.items() if not _PLACE.search(_local(name))}
    return [_without_places(item) for item in value] if isinstance(value, list) else value


def _local(name: str) -> str:
    """The name without its namespace, be that a prefix or an address."""
    return re.split(r"[:/#]", name)[-1]


def _small(image: pyvips.Image) -> pyvips.Image:
    """A few of its pixels in sRGB, as if on white."""
    small = image.thumbnail_image(LOOKED_AT, height=LOOKED_AT, size="down")
    small = to_eight_bits(to_srgb(small))
    if small.hasalpha():
        small = small.flatten(background=full_scale(small))
    return small.colourspace("srgb").copy_memory() if small.bands < GREY_BANDS + 1 else small.copy_memory()


def _dominant_colours(small: pyvips.Image, most: int) -> list[dict[str, Any]]:
    """The colours that stand best for all, and what share of the pixels each stands for."""
    if most < 1:
        return []
    bits = max(1, (most - 1).bit_length())
    palette = pyvips.Image.gifload_buffer(small.gifsave_buffer(bitdepth=bits, dither=0, effort=10, keep="none"))
    pixels = bytes(palette.extract_band(0, n=3).write_to_memory())
    counted = Counter(zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True))
    total = small.width * small.height
    return [
        {"colour": "#" + bytes(colour).hex(), "share": round(count / total, 4)}
        for colour, count in counted.most_common(most)
    ]


def _blurhash(small: pyvips.Image) -> str:
    """A placeholder of some thirty characters, after github.com/woltapp/blurhash."""
    across, down = BLURHASH_COMPONENTS if small.width >= small.height else BLURHASH_COMPONENTS[::-1]
    small = small.thumbnail_image(LOOKED_AT // 2, height=LOOKED_AT // 2, size="down")
    hashed: str = blurhash.encode(_rows(small), components_x=across, components_y=down)
    return hashed


def _rows(small: pyvips.Image) -> list[list[bytes]]:
    """Its pixels; each is the three numbers of its colour."""
    pixels, side = bytes(small.write_to_memory()), 3 * small.width
    rows = [pixels[begin : begin + side] for begin in range(0, len(pixels), side)]
    return [[row[begin : begin + 3] for begin in range(0, side, 3)] for row in rows]
