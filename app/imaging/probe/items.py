"""Items of AVIF and HEIC: pictures and parts of pictures, their references to each other, and where their bytes are."""

from collections.abc import Iterator

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.probe.boxes import Box, boxes, optional
from app.imaging.probe.reader import Reader

_DERIVED = {b"grid", b"iovl", b"iden"}  # composed of other items
_CODED = {b"av01", b"hvc1"}
_PARTS, _ALPHA = b"dimg", b"auxl"  # types of references
_IN_FILE = 0  # construction method: the offset counts from the start of the file


def refuse_unsupported(reader: Reader, meta: list[Box], item: int) -> None:
    """Refuse a main image whose codec is not supported.

    Raises:
        UnsupportedImage: the codec is not supported; the error names it.
    """
    kind = next((kind for number, kind in _kinds(reader, meta) if number == item), None)
    if kind is not None and kind not in _CODED | _DERIVED:
        name = kind.decode("latin-1")
        raise UnsupportedImage(f"The main image of the file is coded as {name!r}; AV1 and HEVC are supported.")


def check_pixels(reader: Reader, meta: list[Box], item: int) -> None:
    """Check that the file holds all pixels of an item, of its parts and of its alpha channel.

    Raises:
        TruncatedImage: the file ends before the last of them.
    """
    needed = _needed(list(_references(reader, meta)), item)
    for number, end in _ends(reader, meta):
        if number in needed and end > reader.size:
            raise TruncatedImage


def _kinds(reader: Reader, meta: list[Box]) -> Iterator[tuple[int, bytes]]:
    iinf = optional(meta, b"iinf")
    if iinf is None:
        return
    reader.position = iinf.start
    (version,) = reader.unpack(">B3x")
    reader.skip(4 if version else 2)
    for entry in boxes(reader, reader.position, iinf.end):
        reader.position = entry.start
        (version,) = reader.unpack(">B3x")
        if version >= 2:
            number, kind = reader.unpack(">H2x4s" if version == 2 else ">I2x4s")
            yield number, kind


def _references(reader: Reader, meta: list[Box]) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """The references between items: type, source item and target items of each."""
    iref = optional(meta, b"iref")
    if iref is None:
        return
    reader.position = iref.start
    (version,) = reader.unpack(">B3x")
    code = "I" if version else "H"
    for box in boxes(reader, reader.position, iref.end):
        reader.position = box.start
        number, count = reader.unpack(f">{code}H")
        reader.spend(count)
        yield box.kind, number, reader.unpack(f">{count}{code}")


def _needed(references: list[tuple[bytes, int, tuple[int, ...]]], item: int) -> set[int]:
    """The numbers of an item, of its alpha channel, and of all items that these are composed of."""
    parts: dict[int, set[int]] = {}
    waiting = [item]
    for kind, number, others in references:
        if kind == _PARTS:
            parts.setdefault(number, set()).update(others)
        elif kind == _ALPHA and item in others:
            waiting.append(number)
    needed: set[int] = set()
    while waiting:
        number = waiting.pop()
        needed.add(number)
        waiting += parts.pop(number, set()) - needed
    return needed


def _ends(reader: Reader, meta: list[Box]) -> Iterator[tuple[int, int]]:
    """For each item whose bytes are in the file: its number, and the position where its bytes end."""
    iloc = optional(meta, b"iloc")
    if iloc is None:
        return
    reader.position = iloc.start
    version, sizes, more_sizes = reader.unpack(">B3xBB")
    widths = sizes >> 4, sizes & 15, more_sizes >> 4, (more_sizes & 15) if version else 0
    (count,) = reader.unpack(">I" if version == 2 else ">H")
    for _ in range(count):
        (number,) = reader.unpack(">I" if version == 2 else ">H")
        method = reader.unpack(">H")[0] & 15 if version else _IN_FILE
        reader.skip(2)  # data_reference_index: the file that holds the item
        end = _extents_end(reader, widths)
        if method == _IN_FILE:
            yield number, end


def _extents_end(reader: Reader, widths: tuple[int, int, int, int]) -> int:
    offset_width, length_width, base_width, index_width = widths
    base = _number(reader, base_width)
    (extents,) = reader.unpack(">H")
    end = 0
    for _ in range(extents):
        reader.skip(index_width)
        start = base + _number(reader, offset_width)
        end = max(end, start + _number(reader, length_width))
    return end


def _number(reader: Reader, width: int) -> int:
    return int.from_bytes(reader.take(width), "big") if width else 0
