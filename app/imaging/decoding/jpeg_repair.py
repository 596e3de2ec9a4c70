"""Removes the causes of warnings from a JPEG file if they do not mean lost pixels."""

import re
from collections.abc import Iterator

START, END = b"\xff\xd8", b"\xff\xd9"
APP0, APP14, SCAN = 0xE0, 0xEE, 0xDA
BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
SEQUENTIAL = {0xC0, 0xC1, 0xC9}
WHOLE_SPECTRUM = b"\0\x3f\0"  # the only parameters that a scan of a sequential JPEG can have
ENDED = ("Premature end of JPEG file", "premature end of JPEG image")  # messages of libjpeg and libvips
ODD_HEADERS = ("Invalid SOS parameters", "unknown JFIF revision", "Unknown Adobe color transform")
PADDING = b"\0\xff"

_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def repaired(data: bytes, warning: str) -> bytes | None:
    """The file without the cause of the warning; None if the warning means lost pixels."""
    if any(words in warning for words in ENDED):
        return None if data.endswith(END) else _ended(data)
    if any(words in warning for words in ODD_HEADERS):
        return _changed(data, tidied(data))
    if surplus := _SURPLUS.search(warning):
        return _changed(data, tidied(data)) or _without_padding(data, int(surplus[1]), int(surplus[2], 16))
    return None


def _ended(data: bytes) -> bytes:
    """The file with an end marker; the next attempt to decode it shows whether pixels are missing.

    Zeros at the end are removed. As pixel data they would be blocks of one colour, so a truncated file that was padded
    would seem complete.
    """
    kept = data.rstrip(b"\0")
    stuffed = b"\0" if kept.endswith(b"\xff") and kept != data else b""
    return kept + stuffed + END


def _changed(before: bytes, after: bytes) -> bytes | None:
    return after if after != before else None


def tidied(data: bytes) -> bytes:
    """The file with common header values and without bytes between segments; unchanged if it cannot be parsed."""
    try:
        return START + b"".join(_segments(data))
    except (IndexError, ValueError):
        return data


def _segments(data: bytes) -> Iterator[bytes]:
    at, sequential = len(START), False
    while True:
        at, marker = _next_marker(data, at)
        if marker == END[1]:
            yield END
            return
        if marker in BARE:
            continue
        after = at + int.from_bytes(data[at : at + 2], "big")
        body = data[at:after]
        if len(body) < 2 or len(body) != after - at:
            raise ValueError
        sequential = sequential or marker in SEQUENTIAL
        yield bytes((0xFF, marker)) + _usual(marker, body, sequential=sequential)
        if marker == SCAN:
            end = _AFTER_SCAN.search(data, after)
            at = end.start() if end else len(data)
            yield data[after:at]
        else:
            at = after


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """The position after the next marker, and the marker."""
    while True:
        at = data.index(b"\xff", at)
        while data[at] == 0xFF:
            at += 1
        if data[at]:
            return at + 1, data[at]


def _usual(marker: int, body: bytes, *, sequential: bool) -> bytes:
    """The body of a segment, with unusual values replaced by ones that every decoder accepts."""
    if marker == APP0 and body[2:7] == b"JFIF\0":
        return body[:7] + b"\x01\x02" + body[9:]
    if marker == APP14 and body[2:7] == b"Adobe" and body[13] > 2:
        return body[:13] + b"\x01" + body[14:]
    if marker == SCAN and sequential:
        return body[:-3] + WHOLE_SPECTRUM
    return body


def with_phantom(data: bytes) -> bytes:
    """The file with an additional component in its frame header that no scan contains."""
    at = len(START)
    try:
        while True:
            at, marker = _next_marker(data, at)
            length = int.from_bytes(data[at : at + 2], "big")
            if marker in FRAMES and length == 2 + 6 + 3 * data[at + 7]:
                break
            at += length if marker not in BARE else 0
    except (IndexError, ValueError):
        return data
    count, components = data[at + 7], data[at + 8 : at + length]
    unused = next(number for number in range(256) if number not in components[::3])
    frame = (length + 3).to_bytes(2, "big") + data[at + 2 : at + 7] + bytes((count + 1,))
    return data[:at] + frame + components + bytes((unused, 0x11, components[2])) + data[at + length :]


def _without_padding(data: bytes, surplus: int, marker: int) -> bytes | None:
    """The file without padding bytes (0x00, 0xFF) after the last block; None if the surplus is not padding.

    Encoders and cameras add such padding. Any other surplus means that the decoder lost its place in the data.
    """
    pieces, at = [], 0
    for found in re.finditer(rb"\xff+" + re.escape(bytes((marker,))), data):
        before = data[at : found.start()]
        if len(before) - len(before.rstrip(PADDING)) >= surplus:
            before = before[:-surplus]
        pieces += [before, found[0]]
        at = found.end()
    return _changed(data, b"".join([*pieces, data[at:]]))
