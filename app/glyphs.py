"""The characters that the fonts of this server contain, found without loading a font.

The fonts that come with PixTools cover the scripts of most languages, and emoji. Chinese, Japanese and Korean need a
font of tens of megabytes, which is used if it is installed.
"""

from collections.abc import Collection
from functools import cache
from itertools import chain
from pathlib import Path
from unicodedata import category, name

from app import fonts

BUNDLED = Path(__file__).parent / "imaging" / "fonts"
SYSTEM = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/opt/homebrew/share/fonts"))
CJK_FILES = ("NotoSansCJK-Regular.ttc", "NotoSansCJK-VF.ttf.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans.ttc")
CJK_PACKAGE = "fonts-noto-cjk"  # Debian's name
CJK = (  # Unicode blocks, except those that bundled fonts may cover in future
    *((0x1100, 0x11FF), (0x2E80, 0x2FDF), (0x2FF0, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x20000, 0x323AF)),
)
INVISIBLE = {"Cf", "Zs"}  # joiners, direction marks and spaces need no glyph
SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x180E))  # variation selectors


def needed_cjk(character: str) -> bool:
    """True if only the fonts for Chinese, Japanese and Korean can contain a character."""
    return any(first <= ord(character) <= last for first, last in CJK)


def missing(text: str, *, cjk: bool = True, own: Collection[str] = ()) -> str | None:
    """The first character of a text that no font contains; None: there is a font for each.

    Args:
        text: any text.
        cjk: whether to check the fonts for Chinese, Japanese and Korean; if not, they count as installed and
            complete.
        own: characters of an additional font.
    """
    return next((character for character in text if character not in own and not _is_there(character, cjk=cjk)), None)


def describe(character: str) -> str:
    """A character with its code point and its Unicode name, so that people can look it up."""
    return f"{character!r} (U+{ord(character):04X} {name(character, '')})".replace(" )", ")")


def files() -> list[Path]:
    """The files of all fonts, the one for Latin first."""
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
    """The code points of the characters that a font contains."""
    return frozenset(
        number
        for run in fonts.runs(path.read_bytes())
        for number in range(run.first, run.last + 1)
        if run.glyph(number)
    )
