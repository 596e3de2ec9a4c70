"""Small TrueType fonts in which every character is the same block."""

import struct
from collections.abc import Sequence

UNITS = 1000  # per em
ADVANCE = 700  # units from one character to the next
BLOCK = (0, 0, ADVANCE, 700)  # left, bottom, right and top, so that there is no gap between two characters

Box = tuple[int, int, int, int]


def font(
    characters: str,
    *,
    family: str = "Blocks",
    block: Box = BLOCK,
    units: int = UNITS,
    groups: Sequence[tuple[int, int]] = (),
) -> bytes:
    """The bytes of a font.

    Args:
        characters: characters of the font; the character map is a table of segments (format 4) without `groups`.
        family: name of the family.
        block: outline of each character.
        units: units per em.
        groups: ranges of further characters, first and last of each, that the character map (format 12) claims to have.
    """
    outline = _outline(block)
    tables = {
        b"cmap": _groups([*((ord(c), ord(c)) for c in characters), *groups]) if groups else _segments(characters),
        b"glyf": outline,
        b"head": _head(block, units),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, 800, -200, 0, units, *(0,) * 11, 2),
        b"hmtx": struct.pack(">HhHh", units, 0, ADVANCE, block[0]),
        b"loca": struct.pack(">3I", 0, 0, len(outline)),  # an empty outline for missing characters
        b"maxp": struct.pack(">I14H", 0x10000, 2, 4, 1, *(0,) * 11),
        b"name": _name(family),
        b"post": struct.pack(">Iihh5I", 0x30000, 0, 0, 0, *(0,) * 5),
    }
    return file_of(tables)


def variable(whole: bytes, *, narrower: int, weights: tuple[int, int, int] = (100, 400, 900)) -> bytes:
    """A variable font whose only axis is the weight: at the greatest weight, the block is narrower.

    Args:
        whole: a font of this module.
        narrower: units by which the block is narrower at the greatest weight.
        weights: the least, the default and the greatest weight.
    """
    axis = struct.pack(">4s3i2H", b"wght", *(weight << 16 for weight in weights), 0, 256)
    instance = struct.pack(">2Hi", 257, 0, weights[2] << 16)
    fvar = struct.pack(">8H", 1, 0, 16, 2, 1, len(axis), 1, len(instance)) + axis + instance
    # of four corners and four points that give the metrics: the last two corners move
    deltas = struct.pack(">B4hBB", 0x43, 0, 0, -narrower, -narrower, 0x83, 0x87)
    body = bytes(1) + deltas  # for all points
    glyph = struct.pack(">4HH", 1, 10, len(body), 0xA000, 1 << 14) + body
    glyph += bytes(len(glyph) % 2)
    offsets = struct.pack(">3H", 0, 0, len(glyph) // 2)
    gvar = struct.pack(">4HI2HI", 1, 0, 1, 0, 20 + len(offsets), 2, 0, 20 + len(offsets)) + offsets + glyph
    return file_of({**tables_of(whole), b"fvar": fvar, b"gvar": gvar})


def file_of(tables: dict[bytes, bytes], kind: bytes = b"\0\1\0\0") -> bytes:
    """The bytes of a font file with these tables."""
    at, records, contents = 12 + 16 * len(tables), b"", b""
    for name, table in sorted(tables.items()):
        records += struct.pack(">4sIII", name, 0, at + len(contents), len(table))
        contents += table + bytes(-len(table) % 4)
    return kind + struct.pack(">4H", len(tables), 0, 0, 0) + records + contents


def tables_of(file: bytes) -> dict[bytes, bytes]:
    """The tables of a font file by name."""
    (count,) = struct.unpack_from(">H", file, 4)
    records = [struct.unpack_from(">4s4xII", file, 12 + 16 * number) for number in range(count)]
    return {name: file[at : at + size] for name, at, size in records}


def collection(*faces: bytes) -> bytes:
    """The bytes of a TrueType collection with several fonts."""
    at, parts = 12 + 4 * len(faces), list[bytes]()
    offsets = []
    for face in faces:
        offsets.append(at)
        part = bytearray(face)
        (count,) = struct.unpack_from(">H", face, 4)
        for place in range(12, 12 + 16 * count, 16):
            (begins,) = struct.unpack_from(">I", face, place + 8)
            struct.pack_into(">I", part, place + 8, begins + at)
        parts.append(bytes(part))
        at += len(part)
    return b"ttcf" + struct.pack(f">II{len(faces)}I", 0x10000, len(faces), *offsets) + b"".join(parts)


def _outline(block: Box) -> bytes:
    left, lower, right, upper = block
    width, height = right - left, upper - lower
    corners = struct.pack(">4h4h", left, 0, width, 0, lower, height, 0, -height)
    return struct.pack(">5hHH", 1, *block, 3, 0) + b"\1" * 4 + corners


def _head(block: Box, units: int) -> bytes:
    times = 0, 0
    return struct.pack(">4I2H2q4h2H3h", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, units, *times, *block, 0, 8, 2, 1, 0)


def _name(family: str) -> bytes:
    texts = {number: family.encode("utf-16-be") for number in (1, 4, 6)} | {2: "Regular".encode("utf-16-be")}
    records, contents = b"", b""
    for number, text in sorted(texts.items()):
        records += struct.pack(">6H", 3, 1, 0x409, number, len(text), len(contents))
        contents += text
    return struct.pack(">3H", 0, len(texts), 6 + len(records)) + records + contents


def _segments(characters: str) -> bytes:
    numbers = [*sorted(map(ord, characters)), 0xFFFF]
    deltas = [(1 - number) % 0x10000 for number in numbers[:-1]] + [1]
    count = len(numbers)
    layout = f">{count}H"
    parts = [struct.pack(layout, *each) for each in (numbers, numbers, deltas, [0] * count)]
    body = struct.pack(">4H", 2 * count, 0, 0, 0) + parts[0] + bytes(2) + b"".join(parts[1:])
    return struct.pack(">4HI", 0, 1, 3, 1, 12) + struct.pack(">3H", 4, 6 + len(body), 0) + body


def _groups(runs: Sequence[tuple[int, int]]) -> bytes:
    """A character map of format 12; the first character of each range has the block."""
    body = b"".join(struct.pack(">3I", first, last, 1) for first, last in sorted(runs))
    head = struct.pack(">2H3I", 12, 0, 16 + len(body), 0, len(runs))
    return struct.pack(">4HI", 0, 1, 3, 10, 12) + head + body
