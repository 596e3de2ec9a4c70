"""What IPTC says, as plain JSON values. Layout: IPTC-NAA Information Interchange Model 4.2, chapters 1 and 6."""

import struct
from typing import Any

PHOTOSHOP, RESOURCE = b"Photoshop 3.0\0", b"8BIM\x04\x04"
UTF_8 = b"\x1b%G"
MAX_VALUES = 1000

NAMES = {  # of the application record
    5: "object_name",
    15: "category",
    20: "supplemental_categories",
    25: "keywords",
    40: "special_instructions",
    55: "date_created",
    60: "time_created",
    80: "by_line",
    85: "by_line_title",
    90: "city",
    92: "sublocation",
    95: "province_state",
    101: "country_name",
    103: "original_transmission_reference",
    105: "headline",
    110: "credit",
    115: "source",
    116: "copyright_notice",
    118: "contact",
    120: "caption",
    122: "writer",
}
REPEATED = {"supplemental_categories", "keywords", "by_line", "by_line_title", "contact", "writer"}


def read_iptc(block: bytes) -> dict[str, Any]:
    """Its application record by name; what may stand there repeatedly is a list.

    Args:
        block: the records, bare.
    """
    found: dict[str, Any] = {}
    data, encoding, position = block, "latin-1", 0
    for _ in range(MAX_VALUES):
        if data[position : position + 1] != b"\x1c" or len(data) < position + 5:
            break
        record, dataset, length = struct.unpack_from(">BBH", data, position + 1)
        value = data[position + 5 : position + 5 + length]
        position += 5 + length  # an extended length (top bit) lies beyond what any of these values may have
        if (record, dataset) == (1, 90):
            encoding = "utf-8" if value == UTF_8 else encoding
        elif record == 2 and dataset in NAMES:
            _add(found, NAMES[dataset], value.decode(encoding, "replace").replace("\0", "").strip())
    return found


def unwrapped(block: bytes) -> bytes:
    """The records themselves, which JPEG keeps in a resource of Photoshop's and TIFF as they are."""
    start = block.find(RESOURCE)
    if start < 0:
        return block
    name = start + len(RESOURCE)  # a Pascal string, padded to an even length
    if name >= len(block):
        return b""
    return block[name + (block[name] + 2 & ~1) + 4 :]  # and after it the length


def wrapped(records: bytes) -> bytes:
    """The records as JPEG keeps them."""
    return PHOTOSHOP + RESOURCE + bytes(2) + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)


def _add(found: dict[str, Any], name: str, text: str) -> None:
    if name in REPEATED:
        found.setdefault(name, []).append(text)
    elif text:
        found.setdefault(name, text)
