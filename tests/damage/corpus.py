"""Damage by seed: bytes changed, cut, doubled and removed, in headers and in pixel data."""

import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.damage.originals import originals

#: what stands before the pixel data of a file
PIXELS = {
    "jpeg": rb"\xff\xda",
    "png": rb"IDAT",
    "webp": rb"VP8[ L]|ALPH",
    "gif": rb",",
    "avif": rb"mdat",
    "heic": rb"mdat",
}


@dataclass(frozen=True)
class Damaged:
    """One file of the corpus."""

    format: str
    variant: str
    #: what was done to it, in words
    damage: str
    content: bytes
    original: bytes

    @property
    def name(self) -> str:
        return f"{self.format} {self.variant}: {self.damage}"


def corpus(format_: str, count: int, seed: int = 1) -> Iterator[Damaged]:
    """`count` damaged files of a format; the first ones of a longer corpus are those of a shorter one."""
    for number in range(count):
        chance = random.Random(f"{format_} {seed} {number}")
        variants = originals(format_)
        variant = chance.choice(sorted(variants))
        content = variants[variant]
        damage = chance.choice(DAMAGES)
        start, end = _part(format_, content, chance)
        shown, damaged = damage(content, chance, start, end)
        if format_ == "png" and chance.random() < 0.3:
            shown, damaged = f"{shown}, checksums made anew", _checked(damaged)
        yield Damaged(format_, variant, shown, damaged, content)


def _part(format_: str, content: bytes, chance: random.Random) -> tuple[int, int]:
    """Where to do damage: the headers, or the pixel data."""
    headers = chance.random() < 0.3
    if format_ == "tiff":  # its directories may stand at either end
        ends = ((8, 300), (len(content) - 300, len(content)))
        return chance.choice(ends) if headers else (8, len(content))
    found = re.search(PIXELS[format_], content)
    pixels = found.end() if found else len(content) // 2
    return (8, pixels) if headers else (pixels, len(content))  # the first bytes only say what the file is


def _changed(content: bytes, chance: random.Random, start: int, end: int) -> tuple[str, bytes]:
    damaged = bytearray(content)
    places = sorted(chance.randrange(start, end) for _ in range(chance.randint(1, 4)))
    for place in places:
        damaged[place] = chance.randrange(256)
    return f"bytes {', '.join(map(str, places))} changed", bytes(damaged)


def _cut(content: bytes, chance: random.Random, start: int, end: int) -> tuple[str, bytes]:
    at = chance.randrange(start, end)
    return f"cut at {at} of {len(content)}", content[:at]


def _doubled(content: bytes, chance: random.Random, start: int, end: int) -> tuple[str, bytes]:
    at = chance.randrange(start, end)
    length = min(chance.choice((1, 2, 16, 100)), len(content) - at)
    return f"{length} bytes at {at} doubled", content[: at + length] + content[at:]


def _removed(content: bytes, chance: random.Random, start: int, end: int) -> tuple[str, bytes]:
    at = chance.randrange(start, end)
    length = min(chance.choice((1, 2, 16, 100)), len(content) - at)
    return f"{length} bytes at {at} removed", content[:at] + content[at + length :]


def _zeroed(content: bytes, chance: random.Random, start: int, end: int) -> tuple[str, bytes]:
    at = chance.randrange(start, end)
    length = min(chance.choice((4, 64, 512)), len(content) - at)
    return f"{length} bytes at {at} zeroed", content[:at] + bytes(length) + content[at + length :]


DAMAGES: tuple[Callable[[bytes, random.Random, int, int], tuple[str, bytes]], ...] = (
    _changed,
    _changed,
    _cut,
    _doubled,
    _removed,
    _zeroed,
)


def _checked(png: bytes) -> bytes:
    """A PNG with the checksum that each of its chunks should have."""
    out, at = bytearray(png), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)
