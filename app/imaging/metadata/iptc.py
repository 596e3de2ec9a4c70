"""What IPTC says, as plain JSON values. Layout: IPTC-NAA Information Interchange Model 4.2, chapters 1 and 6."""

import struct
from collections.abc import Iterator
from typing import Any

PHOTOSHOP, RESOURCE = b"Photoshop 3.0\0", b"8BIM\x04\x04"
UTF_8 = b"\x1b%G"
MAX_VALUES = 1000
HEADER = 5  # bytes before a value
MAX_LENGTH = 0x7FFF  # of a value; above it the length is another one's

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
    encoding = "latin-1"
    for (record, dataset), whole in datasets(block):
        value = whole[HEADER:]
        if (record, dataset) == (1, 90):
            encoding = "utf-8" if value == UTF_8 else encoding
        elif record == 2 and dataset in NAMES:
            _add(found, NAMES[dataset], value.decode(encoding, "replace").replace("\0", "").strip())
    return found


def datasets(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Record, number and all bytes of each dataset; the first that has an extended length or is cut ends them."""
    position = 0
    for _ in range(MAX_VALUES):
        if block[position : position + 1] != b"\x1c" or len(block) < position + HEADER:
            return
        record, number, length = struct.unpack_from(">BBH", block, position + 1)
        end = position + HEADER + length
        if end > len(block) or length > MAX_LENGTH:
            return
        yield (record, number), block[position:end]
        position = end


def unwrapped(block: bytes) -> bytes:
    """The records themselves, which JPEG keeps in a resource of Photoshop's and TIFF as they are."""
    start = block.find(RESOURCE)
    if start < 0:
        return block
    name = start + len(RESOURCE)  # a Pascal string, padded to an even length
    if name >= len(block):
        return b""
    length = name + (block[name] + 2 & ~1)
    records = length + 4
    return block[records : records + int.from_bytes(block[length:records])]  # not the resources that follow


def wrapped(records: bytes) -> bytes:
    """The records as JPEG keeps them."""
    return PHOTOSHOP + RESOURCE + bytes(2) + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)


def _add(found: dict[str, Any], name: str, text: str) -> None:
    if name in REPEATED:
        found.setdefault(name, []).append(text)
    elif text:
        found.setdefault(name, text)
