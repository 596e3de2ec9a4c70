"""Draws a line of text as a mask, in the fonts that come with PixTools or in a font that a tenant has stored.

libvips keeps every font that it has read until the process ends. A tenant's font could then be used for the texts of
other tenants: for characters that no other font contains, or for all of them if it has the name of another font. So a
separate process, `python -m app.imaging.lettering`, loads the font, draws one text and ends. It has the limits of its
parent, and ends with it. A damaged font may crash it, which fails only this step.
"""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from functools import cache
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pyvips

from app import fonts, glyphs
from app.errors import CorruptFont, GlyphMissing, InvisibleText, PixelProcessDied
from app.imaging import libvips

FONT = "DejaVu Sans"  # other fonts draw the characters that it lacks
STORED = "PixToolsStored"  # fontconfig names a font without names after its file
IN_STORED = f"{STORED},{FONT}"  # the second one silently replaces a font that cannot be loaded
PROBES = "♞⠿☡"  # characters that `FONT` has and few others have
DRAWN_AT = 72  # dots per inch, to see how large a text becomes
NO_INK = "no text to render"  # message of libvips
CPU_SECONDS = 20  # limit for a text in a stored font; usually one second is enough
REQUEST_BYTES = 65536  # limit of a request: the capacity of a pipe that is not read yet
SIZE = struct.Struct(">II")  # width and height, before the pixels of the answer
REFUSED, INVISIBLE = 3, 4  # exit statuses

Box = tuple[int, int]


def mask_of(text: str, box: Box, font: Path | None = None) -> pyvips.Image:
    """Draw a text as a mask of one band, as large as the box allows.

    Args:
        text: one line.
        box: width and height in pixels.
        font: file of a stored font; for characters that it lacks, the fonts of this server are used.

    Raises:
        GlyphMissing: no font contains a character of the text.
        InvisibleText: the text has no visible character.
        CorruptFont: the stored font cannot be used.
        PixelProcessDied: the process that draws with the stored font was killed.
    """
    stored = font.read_bytes() if font else None
    lacking = glyphs.missing(text, own=fonts.having(stored, text) if stored else ())
    if lacking:
        raise GlyphMissing(_advice(lacking), value=lacking)
    return _drawn(text, box, FONT) if font is None or stored is None else _drawn_apart(text, box, stored, font.parent)


def _advice(lacking: str) -> str:
    advice = f"; the workers need the package {glyphs.CJK_PACKAGE}" if glyphs.needed_cjk(lacking) else ""
    return f"No font of this server has the character {glyphs.describe(lacking)}{advice}."


def _drawn(text: str, box: Box, families: str) -> pyvips.Image:
    _know_fonts()
    markup = escape(text, quote=False)  # libvips would interpret markup

    def drawn(dpi: int) -> pyvips.Image:
        return pyvips.Image.text(markup, font=families, dpi=dpi)

    try:
        small = drawn(DRAWN_AT)
    except pyvips.Error as error:
        if NO_INK not in str(error):
            raise
        raise InvisibleText from error
    fitting = min(box[0] / small.width, box[1] / small.height)
    return drawn(max(1, int(DRAWN_AT * fitting + 1))).thumbnail_image(box[0], height=box[1])


@cache
def _know_fonts() -> None:
    """Register every font of this server with libvips, once per process."""
    for path in glyphs.files():
        _register(path)


def _register(path: Path) -> None:
    pyvips.Image.text("x", fontfile=str(path), font=FONT)


def _drawn_apart(text: str, box: Box, font: bytes, folder: Path) -> pyvips.Image:
    """Draw a text in a stored font, in a separate process."""
    with TemporaryDirectory(dir=folder) as own:
        path = Path(own) / STORED
        try:
            path.write_bytes(fonts.nameless(font))
        except (struct.error, ValueError):
            raise CorruptFont from None
        if not fonts.has_outlines(font, text):
            raise CorruptFont
        probe = next(iter(set(PROBES) - fonts.having(font, PROBES)), None)
        present = "".join(sorted(fonts.having(font, text)))
        answer = _ask({"font": str(path), "text": text, "present": present, "box": box, "probe": probe})
    if answer.returncode == INVISIBLE:
        raise InvisibleText
    if answer.returncode in {1, -signal.SIGKILL}:  # a bug in PixTools, or killed from outside
        raise PixelProcessDied
    if answer.returncode:
        raise CorruptFont
    width, height = SIZE.unpack_from(answer.stdout)
    return pyvips.Image.new_from_memory(answer.stdout[SIZE.size :], width, height, bands=1, format="uchar")


def _ask(request: dict[str, object]) -> subprocess.CompletedProcess[bytes]:
    reading, writing = os.pipe()  # closes when this process ends, which the child notices
    try:
        os.write(writing, json.dumps(request).encode())
        command = [sys.executable, "-P", "-m", __name__]
        return subprocess.run(command, stdin=reading, stdout=subprocess.PIPE, check=False)  # noqa: S603
    finally:
        os.close(reading)
        os.close(writing)


def main() -> None:
    """Draw one text in a stored font; write the mask to standard output, or exit with a status."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, most))
    request = json.loads(os.read(0, REQUEST_BYTES))
    Thread(target=_end_with_the_other_side, daemon=True).start()
    libvips.configure(1)
    try:
        _know_fonts()
        _register(Path(request["font"]))
        if not _is_loaded(request["probe"]) or not _are_readable(request["font"], request["present"]):
            sys.exit(REFUSED)
        mask = _drawn(request["text"], request["box"], IN_STORED)
        pixels = mask.write_to_memory()
    except InvisibleText:
        sys.exit(INVISIBLE)
    except pyvips.Error as error:
        sys.stderr.write(f"a stored font cannot be used: {error}\n")
        sys.exit(REFUSED)
    sys.stdout.buffer.write(SIZE.pack(mask.width, mask.height) + pixels)


def _is_loaded(probe: str | None) -> bool:
    """True if the stored font was loaded: `probe`, which it lacks, differs from that of `FONT`. None: do not check."""
    if probe is None:
        return True
    alone = f'<span fallback="false">{probe}</span>'
    stored, other = (pyvips.Image.text(alone, font=families, dpi=DRAWN_AT) for families in (IN_STORED, FONT))
    return bool(stored.write_to_memory() != other.write_to_memory())


def _are_readable(font: str, characters: str) -> bool:
    """True if FreeType can read the outlines of these characters; libvips silently leaves out those it cannot read."""
    from PIL import ImageFont  # noqa: PLC0415 - only this process needs it

    try:
        face = ImageFont.truetype(font, DRAWN_AT, layout_engine=ImageFont.Layout.BASIC)
    except OSError:  # it cannot be scaled, for example because it has bitmaps instead of outlines
        return True
    try:
        face.getbbox(characters)
    except OSError:
        return False
    return True


def _end_with_the_other_side() -> None:
    while os.read(0, REQUEST_BYTES):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
