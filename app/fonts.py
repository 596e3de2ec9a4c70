"""Whether a file is a font that text can be set in: read from its tables alone, nothing is loaded or drawn."""

import struct

from app.errors import UnsupportedAsset
from app.glyphs import PLATFORMS

TRUETYPE, OPENTYPE, APPLE, COLLECTION = b"\x00\x01\x00\x00", b"OTTO", b"true", b"ttcf"
MEDIA_TYPES = {TRUETYPE: "font/ttf", APPLE: "font/ttf", OPENTYPE: "font/otf", COLLECTION: "font/collection"}
#: what every font has, and one of the tables of outlines
NEEDED = (b"cmap", b"head", b"hhea", b"hmtx", b"maxp")
OUTLINES = (b"glyf", b"CFF ", b"CFF2", b"CBDT", b"sbix")
HEAD_MAGIC = 0x5F0F3CF5
MAX_TABLES = 128
LAYOUTS = (4, 12)  # of a table of characters: those that have the numbers of Unicode


def media_type(beginning: bytes) -> str | None:
    """Of a file that begins like a font; None: it does not."""
    return MEDIA_TYPES.get(beginning[:4])


def check(font: bytes) -> None:
    """Refuse a file that begins like a font and is none.

    Raises:
        UnsupportedAsset: a table is missing, cut off or without characters.
    """
    try:
        tables = dict(_tables(font))
        missing = [name for name in NEEDED if name not in tables]
        if missing or not any(name in tables for name in OUTLINES):
            name = (missing or [b"glyf"])[0].decode("latin-1").strip()
            raise UnsupportedAsset(f"The font has no table {name!r}.", pointer="#")
        if struct.unpack_from(">I", font, tables[b"head"] + 12)[0] != HEAD_MAGIC:
            raise UnsupportedAsset("The font's head is damaged.", pointer="#")
        if not _has_characters(font, tables[b"cmap"]):
            raise UnsupportedAsset("The font has no Unicode characters.", pointer="#")
    except (struct.error, ValueError):
        raise UnsupportedAsset("The font file is cut off or damaged.", pointer="#") from None


def _tables(font: bytes) -> list[tuple[bytes, int]]:
    start = struct.unpack_from(">I", font, 12)[0] if font[:4] == COLLECTION else 0
    (count,) = struct.unpack_from(">H", font, start + 4)
    if not 0 < count <= MAX_TABLES:
        raise ValueError
    records = [struct.unpack_from(">4s4xII", font, start + 12 + 16 * number) for number in range(count)]
    if any(at + size > len(font) for _, at, size in records):
        raise ValueError
    return [(name, at) for name, at, _ in records]


def _has_characters(font: bytes, at: int) -> bool:
    """Whether there is a table by Unicode; what it says is not followed, since a small one may claim billions."""
    (count,) = struct.unpack_from(">H", font, at + 2)
    for number in range(min(count, MAX_TABLES)):
        platform, encoding, offset = struct.unpack_from(">HHI", font, at + 4 + 8 * number)
        if (platform, encoding) in PLATFORMS and struct.unpack_from(">H", font, at + offset)[0] in LAYOUTS:
            return True
    return False
