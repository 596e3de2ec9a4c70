"""The operation `metadata`: the metadata of an image as JSON."""

import re
from typing import Any

from app.imaging.metadata.exif import place, read_exif
from app.imaging.metadata.iptc import read_iptc
from app.imaging.metadata.xmp import read_xmp
from app.imaging.picture import Picture
from app.imaging.responsive.placeholders import blurhash_of, dominant_colours, few_pixels
from app.parameters import MetadataParams

_PLACE = re.compile(r"gps|latitude|longitude|location|^lat$|^long?$", re.IGNORECASE)  # names without namespace


def describe(picture: Picture, params: MetadataParams) -> dict[str, Any]:
    """The metadata of an image: width and height of the upright pixels; format, frames and profile of the upload."""
    image, origin = picture.first, picture.origin
    exif = read_exif(origin.block("exif-data"))
    gps, xmp = exif.pop("gps", {}), read_xmp(origin.block("xmp-data"))
    iptc, few = read_iptc(origin.block("iptc-data")), few_pixels(image)
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
        "dominant_colours": dominant_colours(few, params.colours),
        "blurhash": blurhash_of(few),
    }


def _without_places(value: Any) -> Any:
    """A value from XMP or IPTC without the location of the photograph, at any depth."""
    if isinstance(value, dict):
        return {name: _without_places(item) for name, item in value.items() if not _PLACE.search(_local(name))}
    return [_without_places(item) for item in value] if isinstance(value, list) else value


def _local(name: str) -> str:
    """The name without its namespace, which is a prefix or a URI."""
    return re.split(r"[:/#]", name)[-1]
