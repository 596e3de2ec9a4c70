"""Which characters the fonts have, read from their tables alone: no font is loaded.

The fonts that come with PixTools have the scripts of most languages and emoji. Chinese, Japanese and Korean need a file
of tens of megabytes, which counts where it is installed.
"""

import struct
from functools import cache
from itertools import chain
from pathlib import Path
from unicodedata import category, name

BUNDLED = Path(__file__).parent / "imaging" / "fonts"
SYSTEM = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/opt/homebrew/share/fonts"))
CJK_FILES = ("NotoSansCJK-Regular.ttc", "NotoSansCJK-VF.ttf.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans.ttc")
CJK_PACKAGE = "fonts-noto-cjk"  # of Debian
CJK = (  # blocks, without what the bundled fonts may get some day
    *((0x1100, 0x11FF), (0x2E80, 0x2FDF), (0x2FF0, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x20000, 0x323AF)),
)
INVISIBLE = {"Cf", "Zs"}  # joiners, marks of direction and spaces need no glyph
SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x180E))  # of variants of a glyph
PLATFORMS = {(0, 3), (0, 4), (0, 6), (3, 1), (3, 10)}  # that number glyphs by Unicode


def needed_cjk(character: str) -> bool:
    """Whether only the fonts for Chinese, Japanese and Korean can have a character."""
    return any(first <= ord(character) <= last for first, last in CJK)


def missing(text: str, *, cjk: bool = True) -> str | None:
    """The first character of a text that no font has.

    Args:
        text: any.
        cjk: whether the fonts for Chinese, Japanese and Korean are asked as well; otherwise they are taken to have
            all that is theirs.
    """
    return next((character for character in text if not _is_there(character, cjk=cjk)), None)


def describe(character: str) -> str:
    """A character as people can look it up."""
    return f"{character!r} (U+{ord(character):04X} {name(character, '')})".replace(" )", ")")


def fonts() -> list[Path]:
    """Files of all fonts, the one for Latin first."""
    return [*_bundled(), *_cjk()]


def _is_there(character: str, *, cjk: bool) -> bool:
    if category(character) in INVISIBLE or ord(character) in SELECTORS:
        return True
    if any(ord(character) in _coverage(path) for path in _bundled()):
        return True
    return any(ord(character) in _coverage(path) for path in _cjk()) if cjk else needed_cjk(character)


@cache
def _bundled() -> tuple[Path, ...]:
    return tuple(sorted(BUNDLED.glob("*.ttf")))


@cache
def _cjk() -> tuple[Path, ...]:
    folders = (folder for folder in SYSTEM if folder.is_dir())
    found = {path.name: path for path in chain.from_iterable(folder.rglob("*") for folder in folders)}
    return tuple(found[file] for file in CJK_FILES if file in found)[:1]


@cache
def _coverage(path: Path) -> frozenset[int]:
    """The numbers of a font's characters."""
    font = path.read_bytes()
    start = struct.unpack_from(">I", font, 12)[0] if font[:4] == b"ttcf" else 0
    tables = _tables(font, start)
    at = tables[b"cmap"]
    (count,) = struct.unpack_from(">H", font, at + 2)
    runs: set[tuple[int, int]] = set()
    for number in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", font, at + 4 + 8 * number)
        if (platform, encoding) in PLATFORMS:
            runs |= _runs(font, at + offset)
    return frozenset(number for first, last in runs for number in range(first, last + 1))


def _tables(font: bytes, start: int) -> dict[bytes, int]:
    (count,) = struct.unpack_from(">H", font, start + 4)
    records = (struct.unpack_from(">4s4xI", font, start + 12 + 16 * number) for number in range(count))
    return dict(records)


def _runs(font: bytes, at: int) -> set[tuple[int, int]]:
    (layout,) = struct.unpack_from(">H", font, at)
    if layout == 12:
        (count,) = struct.unpack_from(">I", font, at + 12)
        return {struct.unpack_from(">II", font, at + 16 + 12 * number) for number in range(count)}
    return set(_segments(font, at)) if layout == 4 else set()


def _segments(font: bytes, at: int) -> list[tuple[int, int]]:
    (twice,) = struct.unpack_from(">H", font, at + 6)
    layout = f">{twice // 2}H"
    ends = struct.unpack_from(layout, font, at + 14)
    starts, deltas, offsets = (struct.unpack_from(layout, font, at + 16 + twice * part) for part in (1, 2, 3))
    places = range(at + 16 + 3 * twice, at + 16 + 4 * twice, 2)
    return [
        (number, number)
        for first, last, delta, offset, place in zip(starts, ends, deltas, offsets, places, strict=True)
        for number in range(first, last + 1)
        if number != 0xFFFF and _glyph(font, number, first, delta, offset, place)
    ]


def _glyph(font: bytes, number: int, first: int, delta: int, offset: int, place: int) -> int:
    """Its number; 0 is that of what is missing."""
    if not offset:
        return (number + delta) & 0xFFFF
    at = place + offset + 2 * (number - first)
    (glyph,) = struct.unpack_from(">H", font, at) if at + 2 <= len(font) else (0,)
    return (glyph + delta) & 0xFFFF if glyph else 0
