"""Text in a font that a tenant has stored: what it draws, and what it does not change."""

import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from app import fonts, glyphs
from app.errors import CorruptFont, GlyphMissing, InvisibleText, PixToolsError
from app.imaging import lettering, watermark
from app.imaging.recipe import Context, Limits, Monitor, Stage, Target
from app.parameters import WatermarkParams
from app.services.execution.sandbox import Sandbox
from tests.imaging.conftest import Pixels, as_image
from tests.support.fonts import collection, file_of, font, tables_of, variable
from tests.support.sampling import WHOLE

GROUND, WHITE = 40, 150  # at least: seams between letters are a little darker
TEXT = {"text": "Hamburg", "scale": 0.5, "opacity": 1, "margin": 0, "gravity": "northwest"}
STORED = {**TEXT, "font": "own.ttf"}
DEJAVU = glyphs.files()[0].read_bytes()
LIMITS = Limits(pixels=5_000_000, side=4000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _marked(folder: Path, content: bytes | None = None, *, frames: int = 1, **params: Any) -> list[Pixels]:
    files = {}
    if content is not None:
        files["font"] = folder / "asset-0-font"
        files["font"].write_bytes(content)
    image = as_image(np.full((120, 280, 3), GROUND, np.uint8))
    given = WatermarkParams(**{**(STORED if content else TEXT), **params})
    return [done.numpy() for done in watermark.run_frames([image] * frames, given, Context(Monitor(), 0, files))]


def _ink(pixels: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and lower end of what was drawn."""
    rows, columns = np.nonzero((pixels != GROUND).any(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _is_one_block(pixels: Pixels) -> bool:
    left, top, right, lower = _ink(pixels)
    return bool((pixels[top + 2 : lower - 2, left + 2 : right - 2] >= WHITE).all())


# -- what it draws -----------------------------------------------------------------------------------------------------


def test_a_text_is_set_in_its_font(folder: Path) -> None:
    """Seven blocks next to one another are one, seven times as wide as it is high."""
    [pixels] = _marked(folder, font("Hamburg"))
    left, top, right, lower = _ink(pixels)
    assert (left, top, right, lower) == pytest.approx((0, 0, 140, 20), abs=1)
    assert _is_one_block(pixels)
    assert [path.name for path in folder.iterdir()] == ["asset-0-font"], "its copy is gone"


@pytest.mark.parametrize(
    "family",
    [
        "DejaVu Sans",
        "Bold 20, <b>&",
        "",
        pytest.param("Noto Emoji", marks=pytest.mark.full),
        pytest.param("PixToolsStored", marks=pytest.mark.full),
    ],
)
def test_its_name_does_not_matter(folder: Path, family: str) -> None:
    assert _is_one_block(_marked(folder, font("Hamburg", family=family))[0])


def test_a_bundled_font_that_was_stored_draws_as_the_bundled_one(folder: Path) -> None:
    assert np.array_equal(_marked(folder, DEJAVU)[0], _marked(folder)[0])


def test_of_a_collection_the_first_face_counts(folder: Path) -> None:
    blocks, stripes = font("Hamburg"), font("Hamburg", block=(0, 0, 300, 700), family="Stripes")
    assert _is_one_block(_marked(folder, collection(blocks, stripes))[0])
    assert not _is_one_block(_marked(folder, collection(stripes, blocks))[0])


def test_other_fonts_step_in_for_what_it_lacks(folder: Path) -> None:
    [pixels] = _marked(folder, font("H"), text="Hनम")
    assert not _is_one_block(pixels)
    ink = (pixels[..., 0] > 128).sum()
    assert ink > (_marked(folder, font("H"), text="H ")[0][..., 0] > 128).sum() / 20
    own = "\U00012000"  # of cuneiform, which no font of the server has
    assert glyphs.missing(own) == own
    assert _is_one_block(_marked(folder, font("", groups=[(0x12000, 0x12000)]), text=own)[0])


def test_a_character_that_no_font_has_is_named(folder: Path) -> None:
    with pytest.raises(GlyphMissing, match=r"U\+12000"):
        _marked(folder, font("H"), text="H\U00012000")


def test_a_text_without_ink_is_named(folder: Path) -> None:
    with pytest.raises(InvisibleText):
        _marked(folder, font("H", block=(0, 0, 0, 0)), text="H")


@pytest.mark.parametrize(
    "weights",
    [(100, 400, 900), *(pytest.param(each, marks=pytest.mark.full) for each in ((100, 200, 900), (500, 900, 900)))],
)
def test_a_variable_font_draws_in_its_default_shape(folder: Path, weights: tuple[int, int, int]) -> None:
    assert _is_one_block(_marked(folder, variable(font("Hamburg"), narrower=400, weights=weights))[0])


def test_an_animation_is_marked_with_one_drawing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ask = list[dict[str, object]](), lettering._ask

    def counted(request: dict[str, object]) -> subprocess.CompletedProcess[bytes]:
        asked.append(request)
        return ask(request)

    monkeypatch.setattr(lettering, "_ask", counted)
    first, second, third = _marked(folder, font("Hamburg"), frames=3)
    assert len(asked) == 1
    assert _is_one_block(first)
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"image": "a.png", "font": "b.ttf"}, "`font` is for a `text`"),
        ({"font": "b.ttf"}, "either an `image` or a `text`"),
        ({"text": "a", "font": "../b"}, "pattern"),
        ({"text": "a\nb", "font": "b.ttf"}, "one line"),
    ],
)
def test_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WatermarkParams(**params)


def test_what_a_stored_font_has_is_left_to_the_worker() -> None:
    assert WatermarkParams(text="\U00012000", font="b.ttf")


# -- what it does not change -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(processes=1, memory_bytes=2_100_000_000) as sandbox:
        yield sandbox


@pytest.fixture
def source(folder: Path) -> Path:
    Image.new("RGB", (280, 120), (GROUND,) * 3).save(folder / "source", "PNG")
    return folder / "source"


def _rendered(sandbox: Sandbox, source: Path, *stages: Stage) -> Pixels:
    target = Target(source.parent / "result", "convert_png", {})
    sandbox.render(source, stages, [target], LIMITS, 120)
    with Image.open(target.path) as image:
        return np.asarray(image)


def _stage(params: dict[str, Any], font_file: Path | None = None) -> Stage:
    return Stage("watermark", params, {"font": font_file} if font_file else {})


def test_a_font_of_another_ones_name_draws_no_other_text(sandbox: Sandbox, source: Path) -> None:
    spoof = source.parent / "spoof"
    spoof.write_bytes(font("Hamburg", family="DejaVu Sans"))
    before = _rendered(sandbox, source, _stage(TEXT))
    [pid] = [child._process.pid for child in sandbox._children]
    stored = _rendered(sandbox, source, _stage(STORED, spoof))
    assert _is_one_block(stored)
    assert np.array_equal(_rendered(sandbox, source, _stage(TEXT)), before)
    assert [child._process.pid for child in sandbox._children] == [pid], "by the same process"
    below = {"gravity": "southwest"}
    both = _rendered(sandbox, source, _stage(STORED, spoof), _stage({**TEXT, **below}))
    assert _is_one_block(both[:60])
    assert np.array_equal(both[60:], _rendered(sandbox, source, _stage({**TEXT, **below}))[60:]), (
        "nor in its own render"
    )


def test_two_stored_fonts_of_one_name_are_two(sandbox: Sandbox, source: Path) -> None:
    blocks, stripes = source.parent / "blocks", source.parent / "stripes"
    blocks.write_bytes(font("Hamburg"))
    stripes.write_bytes(font("Hamburg", block=(0, 0, 300, 700)))
    first, second = (
        _stage({**STORED, "gravity": "northwest"}, blocks),
        _stage({**STORED, "gravity": "southwest"}, stripes),
    )
    pixels = _rendered(sandbox, source, first, second)
    assert _is_one_block(pixels[:60])
    assert not _is_one_block(pixels[60:])


# -- damaged fonts -----------------------------------------------------------------------------------------------------


RARE = {"many glyphs", "variations that are cut off", "more axes than there are"}  # for `make test-full`


def _damages() -> dict[str, bytes]:
    whole = font("Hamburg")
    tables = tables_of(whole)
    varying = tables_of(variable(whole, narrower=400))
    without = {name: table for name, table in tables.items() if name not in {b"glyf", b"loca"}}
    noise = random.Random(5).randbytes(2000)
    damages = {
        "half of the file": whole[: len(whole) // 2],
        "empty tables": file_of({**dict.fromkeys(tables, b""), b"cmap": tables[b"cmap"], b"head": tables[b"head"]}),
        "outlines that are cut off": file_of({**tables, b"glyf": tables[b"glyf"][:9]}),
        "outlines elsewhere": file_of({**tables, b"loca": struct.pack(">3I", 0, 0x7FFFFFF0, 0x7FFFFFFF)}),
        "outlines of noise": file_of({**without, b"CFF ": b"\1\0\4\1" + noise}, b"OTTO"),
        "many glyphs": file_of({**tables, b"maxp": struct.pack(">IH", 0x10000, 0xFFFF) + tables[b"maxp"][6:]}),
        "enormous letters": font("Hamburg", block=(0, 0, 32767, 32767), units=16),
        "no em": font("Hamburg", units=0),
        "variations of noise": file_of({**varying, b"gvar": varying[b"gvar"][:20] + noise}),
        "variations that are cut off": file_of({**varying, b"gvar": varying[b"gvar"][:30]}),
        "more axes than there are": file_of(
            {**varying, b"fvar": varying[b"fvar"][:8] + b"\x7f\xff" + varying[b"fvar"][10:]}
        ),
        "billions of characters": font("Hamburg", groups=[(0, 0xFFFFFFFF)]),
    }
    return {name: damages[name] for name in damages if WHOLE or name not in RARE}


CODES = {"corrupt_font", "invisible_text", "glyph_missing"}


def _outcome(sandbox: Sandbox, source: Path, content: bytes) -> str:
    path = source.parent / "damaged"
    path.write_bytes(content)
    try:
        _rendered(sandbox, source, _stage(STORED, path))
    except PixToolsError as error:
        return error.code
    return "drawn"


def test_damaged_fonts_cost_their_own_step(sandbox: Sandbox, source: Path) -> None:
    _rendered(sandbox, source)
    [pid] = [child._process.pid for child in sandbox._children]
    outcomes = {name: _outcome(sandbox, source, content) for name, content in _damages().items()}
    assert set(outcomes.values()) <= CODES | {"drawn"}, outcomes
    refused = {name for name in outcomes if name.startswith("outlines")} | {"half of the file", "empty tables", "no em"}
    assert {outcomes[name] for name in refused} == {"corrupt_font"}, outcomes
    assert [child._process.pid for child in sandbox._children] == [pid]


def test_no_text_lacks_a_letter_whose_outline_is_damaged(folder: Path) -> None:
    number = next(run.glyph(ord("b")) for run in fonts.runs(DEJAVU) if run.first <= ord("b") <= run.last)
    tables = tables_of(DEJAVU)
    (at,) = struct.unpack_from(">I", tables[b"loca"], 4 * number)
    outlines = bytearray(tables[b"glyf"])
    struct.pack_into(">h", outlines, at, 2000)  # so many contours do not fit into it
    damaged = file_of({**tables, b"glyf": bytes(outlines)})
    with pytest.raises(CorruptFont):
        _marked(folder, damaged)
    assert np.array_equal(_marked(folder, damaged, text="Ham")[0], _marked(folder, text="Ham")[0])


@pytest.mark.parametrize("seed", [3, 6, *(pytest.param(seed, marks=pytest.mark.full) for seed in (0, 1, 2, 4, 5, 7))])
def test_changed_bytes_cost_their_own_step(sandbox: Sandbox, source: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(font("Hamburg") if seed % 2 else DEJAVU)
    for _ in range(2 ** (seed + 2)):
        content[rng.randrange(12, len(content))] = rng.randrange(256)
    assert _outcome(sandbox, source, bytes(content)) in CODES | {"drawn"}


def test_what_kills_the_process_is_the_font(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(_request: dict[str, object]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["/bin/sh", "-c", "kill -SEGV $$"], stdout=subprocess.PIPE, check=False)

    monkeypatch.setattr(lettering, "_ask", dying)
    with pytest.raises(CorruptFont) as caught:
        _marked(folder, font("Hamburg"))
    assert not caught.value.retryable


def test_it_ends_with_the_process_that_asked(folder: Path) -> None:
    """A text that it would draw, of one that is gone: there is no answer."""
    path = folder / lettering.STORED
    path.write_bytes(fonts.nameless(font("Hamburg")))
    request = json.dumps({"font": str(path), "text": "Hamburg", "box": [15000, 3000]}).encode()
    command = [sys.executable, "-m", lettering.__name__]
    done = subprocess.run(command, input=request, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")


# -- tables ------------------------------------------------------------------------------------------------------------


def test_characters_of_both_layouts() -> None:
    assert fonts.having(font("Ham"), "Hamburg") == set("Ham")
    cuneiform = [(0x12000, 0x12000), (0x12004, 0x12010)]
    assert fonts.having(font("Ham", groups=cuneiform), "H\U00012004\U00012011") == {"H", "\U00012004"}
    assert fonts.having(collection(font("H"), font("a")), "Ha") == {"H"}
    assert fonts.having(DEJAVU, "aधÿ") == {"a", "ÿ"}


def test_runs_are_never_written_out() -> None:
    """One that claims every character there can be, and many that claim most of them."""
    claimed = bytearray(font("", groups=[(0, 0), (ord("a"), 0xFFFFFFFF)]))
    at = claimed.index(struct.pack(">2H", 12, 0))
    struct.pack_into(">I", claimed, at + 12, 0xFFFFFFFF)
    assert fonts.having(bytes(claimed), "ab") == {"a"}, "the next one has no glyph"
    many = font("", groups=[(0x20000, 0x10FFFF)] * 20_000)
    assert fonts.having(many, "".join(map(chr, range(0x20, 0xE8)))) == set()
