"""IPTC as plain JSON values. Layout: IPTC-NAA Information Interchange Model 4.2, chapters 1 and 6."""

import struct
from collections.abc import Iterator
from typing import Any

PHOTOSHOP, RESOURCE = b"Photoshop 3.0\0", b"8BIM\x04\x04"
UTF_8 = b"\x1b%G"
MAX_VALUES = 1000
HEADER = 5  # bytes before a value
MAX_LENGTH = 0x7FFF  # bytes of a value; with the top bit set, the field holds the size of an extended length

NAMES = {  # datasets of the application record
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
    """The application record by name; datasets that may be repeated are lists.

    Args:
        block: records without the Photoshop resource, see `unwrapped`.
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
    """Record, number and bytes of each dataset, up to the first one that is truncated or has an extended length."""
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
    """The records without the Photoshop resource that contains them in JPEG; TIFF stores them without one."""
    start = block.find(RESOURCE)
    if start < 0:
        return block
    name = start + len(RESOURCE)  # a Pascal string, padded to an even length
    if name >= len(block):
        return b""
    length = name + (block[name] + 2 & ~1)
    records = length + 4
    return block[records : records + int.from_bytes(block[length:records])]  # other resources may follow


def wrapped(records: bytes) -> bytes:
    """The records in a Photoshop resource, as in a JPEG."""
    return PHOTOSHOP + RESOURCE + bytes(2) + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)


def _add(found: dict[str, Any], name: str, text: str) -> None:
    if name in REPEATED:
        found.setdefault(name, []).append(text)
    elif text:
        found.setdefault(name, text)
