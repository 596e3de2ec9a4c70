"""Structure of PNG and WebP files."""

from app.errors import TruncatedImage
from app.imaging.probe.orientation import MAX_EXIF, orientation_of, upright
from app.imaging.probe.reader import Reader, Shape, damaged

# PNG: chunks, each with a length, a type, data and a checksum


def read_png(reader: Reader) -> Shape:
    reader.skip(8)
    length, kind, width, height = reader.unpack(">I4sII")
    if (length, kind) != (13, b"IHDR"):
        raise damaged("PNG")
    reader.skip(5 + 4)  # the rest of the header, and its checksum
    pixels, orientation, frames = False, 1, 1
    while kind != b"IEND":
        kind = b""
        try:
            length, kind = reader.unpack(">I4s")
            after = reader.position + length + 4
            if kind == b"eXIf":
                orientation = orientation_of(reader.take(min(length, MAX_EXIF)))
            elif kind == b"acTL" and not pixels:
                (frames,) = reader.unpack(">I4x")
            reader.skip(after - reader.position)
        except TruncatedImage:
            if pixels and kind != b"IDAT":
                break  # only data after the pixels is missing
            raise
        pixels = pixels or kind == b"IDAT"
    return Shape(*upright((width, height), orientation), frames=max(frames, 1))


# WebP: RIFF chunks, each with a type, a length and data, padded to an even length

_WEBP_PIXELS = {b"VP8 ", b"VP8L", b"ALPH", b"ANMF"}


def read_webp(reader: Reader) -> Shape:
    (length,) = reader.unpack("<4xI")
    end = 8 + length
    if end > reader.size:
        raise TruncatedImage
    reader.skip(4)
    size: tuple[int, int] | None = None
    animation = stills = 0
    orientation = 1
    while reader.position < end:
        kind, length = reader.unpack("<4sI")
        after = reader.position + length
        size = size or _webp_size(reader, kind)
        animation += kind == b"ANMF"
        stills += kind in {b"VP8 ", b"VP8L"}
        if after > end and (kind in _WEBP_PIXELS or not (animation or stills)):
            raise TruncatedImage
        if kind == b"EXIF":
            orientation = orientation_of(reader.take(min(length, MAX_EXIF, end - reader.position)))
        reader.position = after + length % 2
    if size is None:
        raise damaged("WebP")
    return Shape(*upright(size, orientation), frames=animation or min(stills, 1))


def _webp_size(reader: Reader, kind: bytes) -> tuple[int, int] | None:
    """The width and height from a chunk; None if the chunk does not hold them."""
    if kind == b"VP8X":
        width, width_high, height, height_high = reader.unpack("<4xHBHB")
        return (width_high << 16 | width) + 1, (height_high << 16 | height) + 1
    if kind == b"VP8L":
        signature, bits = reader.unpack("<BI")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) if signature == 0x2F else None
    if kind == b"VP8 ":
        start_code, width, height = reader.unpack("<3x3sHH")
        return (width & 0x3FFF, height & 0x3FFF) if start_code == b"\x9d\x01\x2a" else None
    return None
