"""Text of a watermark: the scripts of most languages, joiners and marks of direction, and what no font has."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import ImageFont
from pydantic import ValidationError

from app import glyphs
from app.errors import GlyphMissing
from app.imaging import watermark
from app.imaging.recipe import Context, Monitor
from app.parameters import WatermarkParams, visible_line
from tests.imaging.conftest import as_image

SCRIPTS = {
    "latin": "Ünï © Ǹ ½",
    "cyrillic": "Привет",
    "greek": "Ελληνικά",
    "hebrew": "שלום עולם",
    "arabic": "مرحبا",
    "persian": "می\u200cخواهم",
    "hindi": "नमस्ते क्षत्रिय",
    "bengali": "বাংলা",
    "punjabi": "ਪੰਜਾਬੀ",
    "gujarati": "ગુજરાતી",
    "odia": "ଓଡ଼ିଆ",
    "tamil": "தமிழ்",
    "telugu": "తెలుగు",
    "kannada": "ಕನ್ನಡ",
    "malayalam": "മലയാളം",
    "sinhala": "සිංහල",
    "thai": "ไทยน้ำ",
    "lao": "ລາວ",
    "khmer": "ខ្មែរ",
    "burmese": "မြန်မာ",
    "amharic": "አማርኛ",
    "georgian": "ქართული",
    "armenian": "Հայերեն",
    "dhivehi": "ދިވެހި",
    "emoji": "😀🎉❤️👍🏽🇩🇪",
    "family": "👩\u200d👩\u200d👧",
}


@cache
def _drawn(text: str, width: int = 300, height: int = 60) -> pyvips.Image:
    ground = as_image(np.full((height, width, 3), 40, np.uint8))
    params = WatermarkParams(text=text, scale=1, margin=0.05, opacity=1, gravity="west")
    return watermark.run(ground, params, Context(Monitor(), 0)).copy_memory()


def _ink(text: str) -> int:
    return int((_drawn(text).numpy() > 128).sum())


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_there(script: str) -> None:
    assert glyphs.missing(SCRIPTS[script], cjk=False) is None
    assert _ink(SCRIPTS[script]) > 100


def test_golden(tmp_path: Path, matches_golden: Callable[[Path], bool]) -> None:
    """Looked at by people: shapes, order and joints are right."""
    rows = [_drawn(text) for text in SCRIPTS.values()]
    pyvips.Image.arrayjoin(rows, across=3).pngsave(str(tmp_path / "scripts.png"), keep="none")
    assert matches_golden(tmp_path / "scripts.png")


def test_coverage_is_that_of_freetype() -> None:
    """By sample: what is said to be there differs from the box of what is missing."""
    rng = np.random.default_rng(4)
    for path in glyphs.files():
        font = ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)
        box = bytes(font.getmask("\U0010fffd"))
        for number in rng.choice(sorted(glyphs._coverage(path)), 20):
            assert bytes(font.getmask(chr(number))) != box, (path.name, hex(number))
        for number in (0x4E00, 0xAC00, 0x12000):
            assert (number in glyphs._coverage(path)) == (bytes(font.getmask(chr(number))) != box), path.name


@pytest.mark.parametrize("mark", ["\u200c", "\u200d", "\u200f", "\u200e", "\u2067", "\u00ad", "\u00a0", "\u202f"])
def test_joiners_marks_of_direction_and_spaces_are_text(mark: str) -> None:
    text = f"a{mark}b"
    assert WatermarkParams(text=text).text == text
    assert visible_line(text) == text
    assert _ink(text) > 100


def test_direction_follows_the_script_and_its_marks() -> None:
    """The dot stands at the left end of Hebrew, and where a mark says so."""

    def dot_is_left(text: str) -> bool:
        ink = _drawn(text).numpy()[..., 0] > 128
        rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
        at_left = np.nonzero(ink[:, columns.min() : columns.min() + 3].any(1))[0]
        return bool(at_left.min() > rows.min() + 0.6 * np.ptp(rows))

    assert dot_is_left("שלום.")
    assert not dot_is_left("lbc.")
    assert dot_is_left("\u200flbc.\u200f")


def test_a_joiner_joins() -> None:
    family, people = _drawn("👩\u200d👩\u200d👧"), _drawn("👩👩👧")
    assert not np.array_equal(family.numpy(), people.numpy())


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\u2028b", "\ud800", "\uffff", "\ue000"])
def test_what_is_no_line_of_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        WatermarkParams(text=text)


@pytest.mark.parametrize("text", ["𒀀", "ab 𓀀"])
def test_a_character_without_a_glyph_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError, match=r"\(U\+1[23]000 "):
        WatermarkParams(text=text)


@pytest.mark.parametrize(("text", "number"), [("日本", "U+65E5"), ("한국", "U+D55C"), ("カナ", "U+30AB")])
def test_cjk_needs_its_fonts(text: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_cjk", tuple)
    with pytest.raises(GlyphMissing, match="fonts-noto-cjk") as caught:
        _drawn(text)
    assert number in caught.value.message
    assert not caught.value.retryable


def test_without_fonts_on_the_machine_it_looks_the_same(tmp_path: Path) -> None:
    """The fonts come with PixTools; in a slim image there is no other."""
    code = (
        "import sys, pyvips; from app.imaging import libvips; libvips.configure(1);"
        "from tests.imaging.test_text import _ink, SCRIPTS;"
        "print(*[_ink(text) for text in SCRIPTS.values()])"
    )
    empty = tmp_path / "fonts.conf"
    empty.write_text("<fontconfig></fontconfig>")
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": root, "FONTCONFIG_FILE": str(empty)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=root)
    bare = np.array([int(ink) for ink in done.stdout.split()])
    usual = np.array([_ink(text) for text in SCRIPTS.values()])
    assert (bare / usual).min() > 0.6  # up to hinting
    assert (bare / usual).max() < 1.7


def test_long_texts_are_looked_at_in_no_time() -> None:
    glyphs.missing("x")  # reads the fonts
    took = []
    for _ in range(3):  # other threads of this process may work meanwhile
        started = time.process_time()
        for _ in range(32):
            assert glyphs.missing("क" * 199 + "\U00012000") == "\U00012000"
        took.append(time.process_time() - started)
    assert min(took) < 0.2


def test_a_name_keeps_its_joiners() -> None:
    from app.imaging.metadata.origin import _line

    assert _line("می\u200cخواهم\n\x00") == "می\u200cخواهم"
