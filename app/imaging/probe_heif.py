"""Structure of AVIF and HEIC: boxes within boxes; the main image is an item, its properties tell its size."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.probe_reader import Reader, Shape, damaged

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
MAX_BRANDS = 64
BOX_STEPS = 25  # what a box counts as: it stays in memory, and an ordinary file has a few dozen


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    end: int


def read_heif(reader: Reader) -> Shape:
    name = _format(reader, next(_boxes(reader, 0, reader.size)))
    boxes = list(_boxes(reader, 0, reader.size))
    meta = _child(boxes, b"meta")
    width, height = _size(reader, list(_boxes(reader, meta.start + 4, meta.end)))
    return Shape(width, height, frames=_frames(reader, boxes), format=name)


def _boxes(reader: Reader, start: int, end: int) -> Iterator[_Box]:
    while start < end:
        reader.position = start
        reader.spend(BOX_STEPS)
        size, kind = reader.unpack(">I4s")
        if size == 1:
            (size,) = reader.unpack(">Q")
        after = start + size if size else end
        if after > reader.size:
            raise TruncatedImage
        if not reader.position <= after <= end:
            raise damaged("AVIF or HEIC")
        yield _Box(kind, reader.position, after)
        start = after


def _child(boxes: list[_Box], kind: bytes) -> _Box:
    for box in boxes:
        if box.kind == kind:
            return box
    raise damaged("AVIF or HEIC")


def _format(reader: Reader, box: _Box) -> str:
    reader.position = box.start
    names = reader.take(min(box.end - box.start, 4 * MAX_BRANDS))
    brands = {names[at : at + 4] for at in range(0, len(names), 4) if at != 4}  # the second is a version
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    raise UnsupportedImage


def _size(reader: Reader, meta: list[_Box]) -> tuple[int, int]:
    iprp = _child(meta, b"iprp")
    groups = list(_boxes(reader, iprp.start, iprp.end))
    ipco = _child(groups, b"ipco")
    properties = list(_boxes(reader, ipco.start, ipco.end))
    wanted = _properties(reader, _child(groups, b"ipma"), _primary_item(reader, _child(meta, b"pitm")))
    size = _child([properties[index - 1] for index in wanted if 0 < index <= len(properties)], b"ispe")
    reader.position = size.start
    width, height = reader.unpack(">4xII")
    return width, height


def _primary_item(reader: Reader, pitm: _Box) -> int:
    reader.position = pitm.start
    (version,) = reader.unpack(">B3x")
    (item,) = reader.unpack(">I" if version else ">H")
    return int(item)


def _properties(reader: Reader, ipma: _Box, item: int) -> list[int]:
    """Numbers, from 1, of the properties that belong to an item."""
    reader.position = ipma.start
    version, flags, entries = reader.unpack(">B2xBI")
    for _ in range(entries):
        owner, count = reader.unpack(">IB" if version else ">HB")
        indexes = reader.unpack(f">{count}{'H' if flags & 1 else 'B'}")
        if owner == item:
            return [index & (0x7FFF if flags & 1 else 0x7F) for index in indexes]  # the top bit is a flag
    raise damaged("AVIF or HEIC")


def _frames(reader: Reader, boxes: list[_Box]) -> int:
    """Samples of the first track of a sequence; 1 for a still image."""
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        container = next((box for box in boxes if box.kind == kind), None)
        boxes = list(_boxes(reader, container.start, container.end)) if container else []
    sizes = next((box for box in boxes if box.kind == b"stsz"), None)
    if sizes is None:
        return 1
    reader.position = sizes.start
    (samples,) = reader.unpack(">8xI")
    return max(int(samples), 1)
