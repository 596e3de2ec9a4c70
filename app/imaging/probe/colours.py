"""Colour information of the main image in AVIF and HEIC files."""

from dataclasses import dataclass

from app.imaging.probe.boxes import Box, boxes, child
from app.imaging.probe.heif import primary_item, properties_of
from app.imaging.probe.reader import Reader


@dataclass(frozen=True)
class HeifColours:
    """How to read the colour values of the main image."""

    #: codes of ITU-T H.273 for primaries and transfer; None if the image has an ICC profile, or neither
    cicp: tuple[int, int] | None
    #: True: colours are stored multiplied by alpha
    premultiplied: bool


def read_colours(reader: Reader) -> HeifColours:
    meta = child(list(boxes(reader, 0, reader.size)), b"meta")
    inner = list(boxes(reader, meta.start + 4, meta.end))
    item = primary_item(reader, child(inner, b"pitm"))
    return HeifColours(_cicp(reader, inner, item), _is_premultiplied(reader, inner, item))


def _cicp(reader: Reader, meta: list[Box], item: int) -> tuple[int, int] | None:
    iprp = child(meta, b"iprp")
    groups = list(boxes(reader, iprp.start, iprp.end))
    ipco = child(groups, b"ipco")
    properties = list(boxes(reader, ipco.start, ipco.end))
    found = None
    for index in properties_of(reader, child(groups, b"ipma"), item):
        if 0 < index <= len(properties) and properties[index - 1].kind == b"colr":
            reader.position = properties[index - 1].start
            (kind,) = reader.unpack(">4s")
            if kind != b"nclx":
                return None  # an ICC profile, which takes precedence
            found = reader.unpack(">HH")
    return found and (int(found[0]), int(found[1]))


def _is_premultiplied(reader: Reader, meta: list[Box], item: int) -> bool:
    iref = next((box for box in meta if box.kind == b"iref"), None)
    if iref is None:
        return False
    reader.position = iref.start
    (version,) = reader.unpack(">B3x")
    for box in boxes(reader, iref.start + 4, iref.end):
        if box.kind == b"prem":
            reader.position = box.start
            (owner,) = reader.unpack(">I" if version else ">H")
            if owner == item:
                return True
    return False
