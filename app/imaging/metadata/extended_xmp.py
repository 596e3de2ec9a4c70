"""XMP that is too large for one segment of a JPEG. Layout: Adobe's XMP specification, part 3, section 1.1.3.1."""

import hashlib
import struct
from pathlib import Path

MAX_BYTES = 32_000  # a segment holds twice as much, but libvips and other readers disagree on the exact limit
CHUNK = 65_400  # bytes of XMP in each segment
MAIN, PART = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
POINTER = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digest}"/>
</rdf:RDF></x:xmpmeta>"""


def insert(path: Path, xmp: bytes) -> None:
    """Insert XMP of any length into a JPEG file without XMP: a short main packet with its MD5, then its parts."""
    digest = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper()
    segments = [MAIN + POINTER.format(digest=digest).encode()]
    for start in range(0, len(xmp), CHUNK):
        head = PART + digest.encode() + struct.pack(">II", len(xmp), start)
        segments.append(head + xmp[start : start + CHUNK])
    content = path.read_bytes()
    place = _after_heads(content)
    written = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    path.write_bytes(content[:place] + written + content[place:])


def _after_heads(content: bytes) -> int:
    """The position after the segments of JFIF and EXIF, which must come first."""
    position = 2
    while content[position : position + 2] in {b"\xff\xe0", b"\xff\xe1"}:
        (length,) = struct.unpack_from(">H", content, position + 2)
        position += 2 + length
    return position
