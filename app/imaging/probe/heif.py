"""Structure of AVIF and HEIC: nested boxes. The main image is an item, and its size is among its properties."""

from app.errors import TruncatedImage, UnsupportedImage
from app.imaging.probe.boxes import Box, boxes, child, optional, outermost
from app.imaging.probe.items import check_pixels, refuse_unsupported
from app.imaging.probe.reader import Reader, Shape, damaged

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
MAX_BRANDS = 64


def read_heif(reader: Reader) -> Shape:
    name = _format(reader, next(boxes(reader, 0, reader.size)))
    found = outermost(reader)
    if optional(found, b"meta") is None and found[-1].end == reader.size:
        raise TruncatedImage
    meta = _content_of_meta(reader, child(found, b"meta"))
    item = primary_item(reader, child(meta, b"pitm"))
    refuse_unsupported(reader, meta, item)
    size = _size(reader, meta, item)
    check_pixels(reader, meta, item)
    return Shape(*size, frames=_frames(reader, found), format=name)


def _content_of_meta(reader: Reader, meta: Box) -> list[Box]:
    return list(boxes(reader, meta.start + 4, meta.end))


def _format(reader: Reader, box: Box) -> str:
    reader.position = box.start
    names = reader.take(min(box.end - box.start, 4 * MAX_BRANDS))
    brands = {names[at : at + 4] for at in range(0, len(names), 4) if at != 4}  # bytes 4 to 8 are a version
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    raise UnsupportedImage


def _size(reader: Reader, meta: list[Box], item: int) -> tuple[int, int]:
    """Width and height of an item as displayed: cropped and rotated by its properties, in their order."""
    iprp = child(meta, b"iprp")
    groups = list(boxes(reader, iprp.start, iprp.end))
    ipco = child(groups, b"ipco")
    properties = list(boxes(reader, ipco.start, ipco.end))
    wanted = properties_of(reader, child(groups, b"ipma"), item)
    own = [properties[index - 1] for index in wanted if 0 < index <= len(properties)]
    reader.position = child(own, b"ispe").start
    width, height = reader.unpack(">4xII")
    for box in own:
        reader.position = box.start
        if box.kind == b"clap":
            width, height = _cut(width, height, *reader.unpack(">4I"))
        elif box.kind == b"irot" and reader.unpack(">B")[0] & 1:
            width, height = height, width
    return width, height


def _cut(width: int, height: int, across: int, across_of: int, down: int, down_of: int) -> tuple[int, int]:
    """The size of a clean aperture in whole pixels; the box stores width and height as fractions."""
    if not (across_of and down_of):
        raise damaged("AVIF or HEIC")
    return min(width, across // across_of), min(height, down // down_of)


def primary_item(reader: Reader, pitm: Box) -> int:
    reader.position = pitm.start
    (version,) = reader.unpack(">B3x")
    (item,) = reader.unpack(">I" if version else ">H")
    return int(item)


def properties_of(reader: Reader, ipma: Box, item: int) -> list[int]:
    """The properties of an item: their indexes in the `ipco` box, from 1."""
    reader.position = ipma.start
    version, flags, entries = reader.unpack(">B2xBI")
    for _ in range(entries):
        owner, count = reader.unpack(">IB" if version else ">HB")
        indexes = reader.unpack(f">{count}{'H' if flags & 1 else 'B'}")
        if owner == item:
            return [index & (0x7FFF if flags & 1 else 0x7F) for index in indexes]  # the top bit means "essential"
    raise damaged("AVIF or HEIC")


def _frames(reader: Reader, found: list[Box]) -> int:
    """Number of samples in the first track of a sequence; 1 for a still image, or if the file ends before them."""
    try:
        for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            container = optional(found, kind)
            found = list(boxes(reader, container.start, container.end)) if container else []
        sizes = optional(found, b"stsz")
        if sizes is None:
            return 1
        reader.position = sizes.start
        (samples,) = reader.unpack(">8xI")
    except (TruncatedImage, UnsupportedImage):
        return 1  # the main image, the only one that is decoded, may still be complete
    return max(int(samples), 1)
