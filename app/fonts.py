"""Reads the tables of a font file, without loading the font or drawing with it. No number in the file is trusted."""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from operator import add
from typing import NamedTuple

from app.errors import UnsupportedAsset

TRUETYPE, OPENTYPE, APPLE, COLLECTION = b"\x00\x01\x00\x00", b"OTTO", b"true", b"ttcf"
MEDIA_TYPES = {TRUETYPE: "font/ttf", APPLE: "font/ttf", OPENTYPE: "font/otf", COLLECTION: "font/collection"}
#: tables that every font needs; in addition, one of `OUTLINES` is needed
NEEDED = (b"cmap", b"head", b"hhea", b"hmtx", b"maxp")
OUTLINES = (b"glyf", b"CFF ", b"CFF2", b"CBDT", b"sbix")
HEAD_MAGIC = 0x5F0F3CF5
MAX_TABLES = 128
#: platform and encoding of Unicode character maps, in HarfBuzz's order of preference
UNICODE = ((3, 10), (0, 6), (0, 4), (3, 1), (0, 3))
SEGMENTS, GROUPS = 4, 12  # supported formats of a character map
NO_CHARACTER = 0xFFFF  # ends the segments
HIDDEN = b"nam_"  # keeps the alphabetical order of tables, but no program looks for it


class Table(NamedTuple):
    """A table of a font file."""

    name: bytes
    #: offset of its record
    record: int
    #: offset of its data
    at: int
    #: size of its data in bytes
    size: int


class Run(NamedTuple):
    """A run of consecutive characters."""

    first: int
    last: int
    #: returns the glyph index of a code point; 0: there is no glyph
    glyph: Callable[[int], int]


def media_type(beginning: bytes) -> str | None:
    """The media type of a font by the first bytes of its file; None: the file is not a font."""
    return MEDIA_TYPES.get(beginning[:4])


def check(font: bytes) -> None:
    """Refuse a file that has the signature of a font but is not a valid one.

    Raises:
        UnsupportedAsset: a table is missing, cut off or without characters.
    """
    try:
        tables = _tables(font)
        missing = [name for name in NEEDED if name not in tables]
        if missing or not any(name in tables for name in OUTLINES):
            name = (missing or [b"glyf"])[0].decode("latin-1").strip()
            raise UnsupportedAsset(f"The font has no table {name!r}.", pointer="#")
        if struct.unpack_from(">I", font, tables[b"head"].at + 12)[0] != HEAD_MAGIC:
            raise UnsupportedAsset("The font's head is damaged.", pointer="#")
        if _table_of_characters(font) is None:
            raise UnsupportedAsset("The font has no Unicode characters.", pointer="#")
    except (struct.error, ValueError):
        raise UnsupportedAsset("The font file is cut off or damaged.", pointer="#") from None


def having(font: bytes, text: str) -> frozenset[str]:
    """The characters of a text that a font contains, as far as its character map can be read."""
    return frozenset(map(chr, _glyphs(font, text)))


def has_outlines(font: bytes, text: str) -> bool:
    """True if the outlines for a text lie within the font's table of outlines; characters without a glyph are ignored.

    FreeType draws nothing for an outline outside of the table, as for a space. Only TrueType outlines are checked.
    """
    try:
        tables = _tables(font)
        return not any(_is_elsewhere(font, tables, glyph) for glyph in _glyphs(font, text).values())
    except (struct.error, ValueError, KeyError):
        return False


def _glyphs(font: bytes, text: str) -> dict[int, int]:
    """Glyph indexes by code point, for the characters of a text that a font contains.

    A small file may claim billions of characters, so its runs are never expanded. If several runs contain a character,
    the first one decides.
    """
    wanted, found = sorted(set(map(ord, text))), dict[int, int]()
    try:
        (count,) = struct.unpack_from(">H", font, _tables(font)[b"maxp"].at + 4)
        for run in runs(font):
            low, high = bisect_left(wanted, run.first), bisect_right(wanted, run.last)
            glyphs = {number: run.glyph(number) for number in wanted[low:high]}
            found |= {number: glyph for number, glyph in glyphs.items() if 0 < glyph < count}
            del wanted[low:high]
            if not wanted:
                break
    except (struct.error, ValueError, KeyError):
        pass
    return found


def _is_elsewhere(font: bytes, tables: dict[bytes, Table], glyph: int) -> bool:
    """True if the outline of a glyph lies outside of the table of outlines."""
    outlines, places = tables.get(b"glyf"), tables.get(b"loca")
    if outlines is None or places is None:
        return False
    (is_long,) = struct.unpack_from(">h", font, tables[b"head"].at + 50)
    layout = struct.Struct(">2I" if is_long else ">2H")
    at = glyph * layout.size // 2
    if at + layout.size > places.size:
        return True
    begins, ends = (place if is_long else 2 * place for place in layout.unpack_from(font, places.at + at))
    is_last = at + layout.size == places.size  # FreeType allows the last outline to end with the table
    return begins > outlines.size or (ends > outlines.size and not is_last)


def runs(font: bytes) -> Iterator[Run]:
    """The runs of characters in a font's character map.

    Raises:
        struct.error, ValueError: the file is damaged.
    """
    at = _table_of_characters(font)
    if at is None:
        return iter(())
    (layout,) = struct.unpack_from(">H", font, at)
    return _groups(font, at) if layout == GROUPS else _segments(font, at)


def nameless(font: bytes) -> bytes:
    """The first face of a font file, without its table of names: a stored font must not pass for another one.

    Raises:
        struct.error, ValueError: the file is damaged.
    """
    changed = bytearray(font)
    if font[:4] == COLLECTION:
        struct.pack_into(">I", changed, 8, 1)  # the number of faces
    for table in _records(font):  # both, if a font has two: FreeType uses the first
        if table.name == b"name":
            changed[table.record : table.record + 4] = HIDDEN
    return bytes(changed)


def _tables(font: bytes) -> dict[bytes, Table]:
    """The tables of the first face, by name."""
    return {table.name: table for table in reversed(_records(font))}


def _records(font: bytes) -> list[Table]:
    start = struct.unpack_from(">I", font, 12)[0] if font[:4] == COLLECTION else 0
    (count,) = struct.unpack_from(">H", font, start + 4)
    if not 0 < count <= MAX_TABLES:
        raise ValueError
    found = []
    for record in range(start + 12, start + 12 + 16 * count, 16):
        name, at, size = struct.unpack_from(">4s4xII", font, record)
        found.append(Table(name, record, at, size))
    if any(table.at + table.size > len(font) for table in found):
        raise ValueError
    return found


def _table_of_characters(font: bytes) -> int | None:
    """The offset of the Unicode character map; None: the font has none."""
    characters = _tables(font).get(b"cmap")
    if characters is None:
        return None
    start = characters.at
    (count,) = struct.unpack_from(">H", font, start + 2)
    found = dict[tuple[int, int], int]()
    for number in range(min(count, MAX_TABLES)):
        platform, encoding, offset = struct.unpack_from(">HHI", font, start + 4 + 8 * number)
        kind, at = (platform, encoding), start + offset
        if kind in UNICODE and struct.unpack_from(">H", font, at)[0] in {SEGMENTS, GROUPS}:
            found.setdefault(kind, at)
    return next((found[kind] for kind in UNICODE if kind in found), None)


def _groups(font: bytes, at: int) -> Iterator[Run]:
    (count,) = struct.unpack_from(">I", font, at + 12)
    for number in range(count):
        first, last, glyph = struct.unpack_from(">III", font, at + 16 + 12 * number)
        yield Run(first, last, partial(add, glyph - first))


def _segments(font: bytes, at: int) -> Iterator[Run]:
    (twice,) = struct.unpack_from(">H", font, at + 6)
    layout = f">{twice // 2}H"
    ends = struct.unpack_from(layout, font, at + 14)
    starts, deltas, offsets = (struct.unpack_from(layout, font, at + 16 + twice * part) for part in (1, 2, 3))
    places = range(at + 16 + 3 * twice, at + 16 + 3 * twice + 2 * len(ends), 2)
    for first, last, delta, offset, place in zip(starts, ends, deltas, offsets, places, strict=True):
        listed = place + offset if offset else None
        yield Run(first, min(last, NO_CHARACTER - 1), partial(_glyph, font, first, delta, listed))


def _glyph(font: bytes, first: int, delta: int, listed: int | None, number: int) -> int:
    if listed is None:
        return (number + delta) & 0xFFFF
    at = listed + 2 * (number - first)
    (glyph,) = struct.unpack_from(">H", font, at) if at + 2 <= len(font) else (0,)
    return (glyph + delta) & 0xFFFF if glyph else 0
