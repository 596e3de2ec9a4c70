"""EXIF as plain JSON values."""

import io
import logging
import math
import struct
from typing import Any

import exifread

logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it logs every oddity of a file

PREFIX = b"Exif\0\0"
DIRECTORIES = {  # the directories of EXIF 3.0, by exifread's names
    "Image": "image",
    "EXIF": "photo",
    "GPS": "gps",
    "Thumbnail": "thumbnail",
    "Interoperability": "interoperability",
}
POINTERS = {"ExifOffset", "GPSInfo", "InteroperabilityOffset"}  # offsets of directories: useless outside the file
MAX_TEXT = 2000  # characters
ASCII = 2  # type of an entry; in practice programs write and read UTF-8
ARTIST, COPYRIGHT = 0x013B, 0x8298  # tags

Tags = dict[str, Any]


def read_exif(block: bytes) -> dict[str, Tags]:
    """The tags of each directory, by their names in the standard and without maker notes; empty for a broken block.

    Rationals become numbers, dates ISO 8601 without the T, and enumerations words, e.g. `Rotated 90 CW`.
    """
    if not block:
        return {}
    try:
        found = exifread.process_file(
            io.BytesIO(block.removeprefix(PREFIX)), details=False, extract_thumbnail=False, builtin_types=True
        )
    except Exception:  # noqa: BLE001 - hostile bytes, and a library that does not list what it raises
        return {}
    directories: dict[str, Tags] = {}
    for name, value in found.items():
        directory, _, tag = name.partition(" ")
        plain = _plain(value)
        if directory in DIRECTORIES and plain is not None and tag not in POINTERS:
            directories.setdefault(DIRECTORIES[directory], {})[tag] = plain
    return directories


def signed(texts: dict[int, str]) -> bytes:
    """A block of EXIF with only these texts, by tag, in its first directory."""
    values = {tag: text.encode()[:MAX_TEXT] + b"\0" for tag, text in sorted(texts.items())}
    data, after = b"", 8 + 2 + 12 * len(values) + 4
    entries = b""
    for tag, value in values.items():
        if len(value) <= 4:  # such values are stored in the entry itself
            entries += struct.pack("<HHI4s", tag, ASCII, len(value), value)
        else:
            entries += struct.pack("<HHII", tag, ASCII, len(value), after + len(data))
            data += value
    return PREFIX + struct.pack("<2sHIH", b"II", 42, 8, len(values)) + entries + bytes(4) + data


def place(gps: Tags) -> Tags:
    """Latitude and longitude in degrees and altitude in metres, from the `gps` directory; empty without a position."""
    try:
        latitude, longitude = _degrees(gps, "GPSLatitude", "S"), _degrees(gps, "GPSLongitude", "W")
        found = {"latitude": latitude, "longitude": longitude}
        if "GPSAltitude" in gps:
            below = str(gps.get("GPSAltitudeRef", 0)).startswith("1")
            found["altitude"] = -float(gps["GPSAltitude"]) if below else float(gps["GPSAltitude"])
    except (KeyError, TypeError, ValueError):
        return {}
    return found


def _degrees(gps: Tags, name: str, negative: str) -> float:
    degrees, minutes, seconds = gps[name]
    value = round(float(degrees + minutes / 60 + seconds / 3600), 7)
    return -value if gps.get(f"{name}Ref") == negative else value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return None if None in items else items[0] if len(items) == 1 else items
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = str(value).replace("\0", "").strip()[:MAX_TEXT]
    return text.encode("utf-8", "replace").decode() or None
