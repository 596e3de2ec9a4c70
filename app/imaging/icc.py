"""What is in an ICC profile, as far as anybody asks. Layout: ICC.1:2022, chapters 7 and 10."""

import struct

HEADER = 128  # bytes
MAX_KEPT = 1_000_000  # bytes; PNG takes no profile of many megabytes, and one of RGB has some hundreds
MAX_TAGS = 100


def is_rgb(profile: bytes) -> bool:
    """Whether pixels can stay in the colours of this profile."""
    return HEADER < len(profile) <= MAX_KEPT and profile[16:20] == b"RGB "


def description(profile: bytes) -> str | None:
    """The profile's name, e.g. `Display P3`."""
    try:
        (count,) = struct.unpack_from(">I", profile, HEADER)
        for number in range(min(count, MAX_TAGS)):
            tag, offset, size = struct.unpack_from(">4sII", profile, HEADER + 4 + 12 * number)
            if tag == b"desc":
                return _text(profile[offset : offset + size])
    except struct.error:
        pass
    return None


def _text(tag: bytes) -> str | None:
    if tag[:4] == b"mluc":  # version 4: records of language, length and offset
        length, offset = struct.unpack_from(">II", tag, 20)
        name = tag[offset : offset + length].decode("utf-16-be", "replace")
    else:  # version 2
        (length,) = struct.unpack_from(">I", tag, 8)
        name = tag[12 : 12 + length].decode("latin-1")
    return name.rstrip("\0").strip() or None
