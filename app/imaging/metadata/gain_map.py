"""HDR gain maps: a second picture in the file, by which HDR displays brighten the first one.

A gain map fits only the pixels that it came with, so results contain neither the map nor the XMP that announces it.
"""

import mmap
import re
from pathlib import Path

from app.formats import FORMATS

MARKS = (
    b"urn:iso:std:iso:ts:21496",  # ISO 21496-1
    b"http://ns.adobe.com/hdr-gain-map/",  # Ultra HDR
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
)

_CLAIM = re.compile(rb"\s(?:hdrgm|HDRGainMap):\w+=\"[^\"]*\"")
_DIRECTORY = (b"<Container:Directory", b"</Container:Directory>")


def is_in(path: Path, format_: str) -> bool:
    """True if a file contains a gain map."""
    if not FORMATS[format_].gain_map:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in MARKS)


def unclaimed(xmp: bytes) -> bytes:
    """The XMP packet without its entries about a gain map."""
    start, close = _DIRECTORY
    while (at := xmp.find(start)) >= 0 and (end := xmp.find(close, at)) >= 0:
        xmp = xmp[:at] + xmp[end + len(close) :]
    return _CLAIM.sub(b"", xmp)
