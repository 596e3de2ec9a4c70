"""A reader for the parts of ICC profiles that are needed here. Layout: ICC.1:2022, chapters 7 and 10."""

import struct
from itertools import product

HEADER = 128  # bytes
MAX_KEPT = 1_000_000  # bytes; PNG cannot hold profiles of many megabytes, and most RGB profiles have a few hundred
MAX_TAGS = 100
COLORANTS, CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
TO_CONNECTION, FROM_CONNECTION = b"A2B0", b"B2A0"  # lookup tables to and from the profile connection space
TYPES: dict[bytes, tuple[bytes, ...]] = {
    **dict.fromkeys(COLORANTS, (b"XYZ ",)),
    **dict.fromkeys((*CURVES, b"kTRC"), (b"curv", b"para")),
    TO_CONNECTION: (b"mft1", b"mft2", b"mAB "),
}
NEEDED = {b"RGB ": (*COLORANTS, *CURVES), b"GRAY": (b"kTRC",)}  # tags of profiles without lookup tables
#: matrix from the connection space (XYZ, D50) to linear sRGB
SRGB = ((3.1339, -1.6169, -0.4906), (-0.9788, 1.9161, 0.0335), (0.0719, -0.2290, 1.4052))
OUTSIDE = -0.02  # a colour with a component below this in linear sRGB is outside its gamut

Tags = dict[bytes, bytes]


def is_rgb(profile: bytes) -> bool:
    """Whether a result can keep this profile: it is for RGB, and colours can be converted to it."""
    if not HEADER < len(profile) <= MAX_KEPT or profile[16:20] != b"RGB ":
        return False
    tags = _tags(profile)
    return TO_CONNECTION not in tags or FROM_CONNECTION in tags


def is_sound(profile: bytes, model: bytes) -> bool:
    """Whether a profile is for this colour model and has the tags that it needs.

    Args:
        profile: the bytes from the file.
        model: `RGB `, `GRAY` or `CMYK`.
    """
    if profile[36:40] != b"acsp" or profile[16:20] != model:
        return False
    tags = _tags(profile)
    needed = (TO_CONNECTION,) if TO_CONNECTION in tags else NEEDED.get(model, (TO_CONNECTION,))
    return all(tags.get(name, b"")[:4] in TYPES[name] for name in needed)


def is_wide(profile: bytes) -> bool:
    """Whether the profile's primaries lie outside the gamut of sRGB."""
    tags = _tags(profile)
    return any(
        sum(part * share for part, share in zip(_xyz(tags[name]), row, strict=True)) < OUTSIDE
        for name, row in product(COLORANTS, SRGB)
        if len(tags.get(name, b"")) >= 20
    )


def description(profile: bytes) -> str | None:
    """The profile's name, e.g. `Display P3`; None if it has none or cannot be read."""
    try:
        return _text(_tags(profile).get(b"desc", b""))
    except struct.error:
        return None


def _tags(profile: bytes) -> Tags:
    """The profile's tags by name, as far as the tag table can be read."""
    found: Tags = {}
    try:
        (count,) = struct.unpack_from(">I", profile, HEADER)
        for number in range(min(count, MAX_TAGS)):
            tag, offset, size = struct.unpack_from(">4sII", profile, HEADER + 4 + 12 * number)
            found[tag] = profile[offset : offset + size]
    except struct.error:
        pass
    return found


def _xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _text(tag: bytes) -> str | None:
    if tag[:4] == b"mluc":  # version 4: records with language, length and offset
        length, offset = struct.unpack_from(">II", tag, 20)
        name = tag[offset : offset + length].decode("utf-16-be", "replace")
    else:  # version 2
        (length,) = struct.unpack_from(">I", tag, 8)
        name = tag[12 : 12 + length].decode("latin-1")
    return name.rstrip("\0").strip() or None
