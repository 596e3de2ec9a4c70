"""What Pillow and libvips both show whole passes, whatever was inserted, appended or cut off."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from app import formats
from app.imaging.pipeline import Limits, Target, render
from app.imaging.probe import probe
from tests.damage.judges import judge, shown
from tests.damage.originals import FORMATS, originals
from tests.support.sampling import sampled

LIMITS = Limits(pixels=50_000_000, side=16384)


def _result(content: bytes, folder: Path) -> bytes:
    """What the service makes of a file."""
    source = folder / "source"
    source.write_bytes(content)
    probe(io.BytesIO(content))
    render(source, [], [Target(folder / "result.png", "convert_png", {"compression": 1})], LIMITS)
    return (folder / "result.png").read_bytes()


@cache
def _result_of_sound(content: bytes) -> bytes:
    with TemporaryDirectory() as folder:
        return _result(content, Path(folder))


@pytest.mark.parametrize("format_", FORMATS)
def test_the_files_that_are_changed_here_are_sound(format_: str, tmp_path: Path) -> None:
    for name, content in originals(format_).items():
        file = tmp_path / f"file.{format_}"
        file.write_bytes(content)
        assert judge(format_, file, first=False).sound, name
        assert _result_of_sound(content), name


def _before(marker: bytes, inserted: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(marker, inserted + marker, 1)


def _at_end(count: int, inserted: bytes) -> Callable[[bytes], bytes]:
    """Inserted before so many last bytes."""
    return lambda content: content[:-count] + inserted + content[-count:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _with_chunk(webp: bytes) -> bytes:
    """An unknown chunk at the end of a WebP, which counts its bytes."""
    return webp[:4] + struct.pack("<I", len(webp) - 8 + 12) + webp[8:] + b"ABCD\4\0\0\0abcd"


def _odd_scan(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xda")
    at += 5 + 2 * jpeg[at + 4]
    return jpeg[:at] + bytes(3) + jpeg[at + 3 :]


def _odd_version(version: bytes) -> Callable[[bytes], bytes]:
    return lambda jpeg: re.sub(rb"JFIF\0..", b"JFIF\0" + version, jpeg, count=1, flags=re.DOTALL)


def _with_adobe(transform: int) -> Callable[[bytes], bytes]:
    segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes((transform,))
    return lambda jpeg: jpeg[:2] + segment + jpeg[2:]


def _with_page_beyond(tiff: bytes) -> bytes:
    """A TIFF whose first page says that another one comes, after the file's end."""
    (at,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, at)
    at += 2 + 12 * count
    return tiff[:at] + struct.pack("<I", 0x7FFFFFF0) + tiff[at + 4 :]


COMMENT = b"\xff\xfe\0\6abcd"
SCAN = b"\xff\xda"
FIRST_GIF_IMAGE = re.compile(rb"(?s)\x21\xf9\x04|,")
HARMLESS: dict[str, dict[str, Callable[[bytes], bytes]]] = {
    "jpeg": {
        "odd parameters of a scan": _odd_scan,
        "JFIF 2.01": _odd_version(b"\2\1"),
        "JFIF 0.00": _odd_version(b"\0\0"),
        "unknown Adobe transform": _with_adobe(9),
        "a comment": _before(SCAN, COMMENT),
        "an unknown segment": _before(SCAN, b"\xff\xe9\0\6abcd"),
        "fill bytes": _before(SCAN, b"\xff" * 7),
        "zeros between segments": _before(SCAN, bytes(3)),
        "bytes between segments": _before(SCAN, b"abc"),
        "a stuffed byte between segments": _before(SCAN, b"\xff\0"),
        "zeros after the last block": _at_end(2, bytes(20)),
        "ones after the last block": _at_end(2, b"\xff" * 20),
        "zeros instead of the end": lambda content: content[:-2] + bytes(64),
        "a second picture": lambda content: content + content,
    },
    "png": {
        "an unknown chunk": _before(b"\0\0\0\0IEND", _chunk(b"abCd", b"abc")),
        "no IEND": lambda content: content[: content.index(b"IEND") - 4],
        "half of IEND": lambda content: content[: content.index(b"IEND") + 2],
        "IEND without checksum": lambda content: content[: content.index(b"IEND") + 4],
    },
    "webp": {"an unknown chunk": _with_chunk},
    "gif": {
        "no trailer": lambda content: content.removesuffix(b";"),
        "zeros before the trailer": _at_end(1, bytes(3)),
        "zeros instead of the trailer": lambda content: content[:-1] + bytes(9),
        "bytes before the trailer": _at_end(1, b"abc"),
        "a comment": _at_end(1, b"!\xfe\3abc\0"),
        "half a comment": lambda content: content[:-1] + b"!\xfe\x09abc",
        "an unknown extension": _at_end(1, b"!\x77\3abc\0"),
        "a screen of no size": lambda content: content[:6] + bytes(4) + content[10:],
    },
    "tiff": {"a page beyond the end": _with_page_beyond},
    "avif": {"a free box": lambda content: content + b"\0\0\0\x0cfreeabcd"},
    "heic": {"a free box": lambda content: content + b"\0\0\0\x0cfreeabcd"},
}
APPENDED = {
    "a newline": b"\n",
    "zeros": bytes(600),
    "a motion photo": b"MotionPhoto_Data\0\0\0\x18ftypmp42" + bytes(60) + b"SEFHj\0\0\0\1\0\0\0SEFT",
    "a page of HTML": b"<!DOCTYPE html><title>Not Found</title>",
}
VARIANT = {"jpeg": "422 with EXIF", "png": "rgb", "webp": "lossy", "gif": "still", "tiff": "LZW"}  # else "420"


@pytest.mark.parametrize(("format_", "change"), [(name, change) for name in HARMLESS for change in HARMLESS[name]])
def test_a_harmless_change_passes(format_: str, change: str, tmp_path: Path) -> None:
    content = originals(format_)[VARIANT.get(format_, "420")]
    if change == "JFIF 2.01":
        content = originals(format_)["420"]
    changed = HARMLESS[format_][change](content)
    assert changed != content
    assert _pixels(_result(changed, tmp_path)).shape == _pixels(_result_of_sound(content)).shape


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("change", APPENDED)
def test_bytes_after_the_end_pass(format_: str, change: str, tmp_path: Path) -> None:
    for name, content in originals(format_).items():
        assert _result(content + APPENDED[change], tmp_path) == _result_of_sound(content), name


def _pixels(content: bytes) -> Any:
    return np.asarray(shown(content, first=True))


@cache
def _as_pillow(content: bytes, first: bool) -> list[bytes]:
    return shown(content, first=first)


@cache
def _as_libvips(format_: str, content: bytes) -> bytes:
    fail_on = "none" if format_ == "jpeg" else "warning"
    source = pyvips.Source.new_from_memory(content)
    pages = {"n": -1} if formats.FORMATS[format_].animated else {}
    return bytes(
        pyvips.Operation.call(formats.FORMATS[format_].loader, source, fail_on=fail_on, **pages).write_to_memory()
    )


def _all_show_it_whole(format_: str, content: bytes, original: bytes, folder: Path) -> bool:
    """Whether Pillow, libvips, and for JPEG and GIF the reference decoder, show every pixel as it was.

    A GIF that ends within the data of an image is refused at once, even if no pixel is missing: nearly always some are.
    """
    try:
        first = not formats.FORMATS[format_].animated
        if shown(content, first=first) != _as_pillow(original, first):
            return False
        has_loader = formats.FORMATS[format_].loader is not None
        if has_loader and _as_libvips.__wrapped__(format_, content) != _as_libvips(format_, original):
            return False
    except Exception:  # noqa: BLE001 - whatever they raise, they do not show it
        return False
    file = folder / f"judged.{format_}"
    file.write_bytes(content)
    return format_ not in {"jpeg", "gif"} or not any(judge(format_, file, first=False).complaints)


class _Changed:
    """A file and what it was; shown by what was done to it."""

    def __init__(self, format_: str, variant: str, content: bytes, changes: Sequence[str]) -> None:
        self.format, self.variant, self.content, self.changes = format_, variant, content, changes

    def __repr__(self) -> str:
        return f"{self.format} {self.variant}: {'; '.join(self.changes)}"

    @property
    def original(self) -> bytes:
        return originals(self.format)[self.variant]


@st.composite
def _changed(draw: st.DrawFn) -> _Changed:
    """A file with bytes inserted, appended, overwritten or cut off: mostly where no pixels are."""
    format_ = draw(st.sampled_from(FORMATS))
    variant = draw(st.sampled_from(sorted(originals(format_))))
    content = originals(format_)[variant]
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(("append", "cut", "insert", "overwrite", *sorted(HARMLESS[format_]))))
        piece = draw(st.binary(min_size=1, max_size=12) | st.just(bytes(8)) | st.just(b"\xff\xff"))
        near_an_end = st.integers(8, min(120, len(content))) | st.integers(max(8, len(content) - 60), len(content))
        at = draw(near_an_end | st.integers(8, max(8, len(content))))
        changes.append(f"{change} at {at} of {len(content)}: {piece!r}")
        if change == "append":
            content += piece
        elif change == "cut":
            content = content[: -len(piece)]
        elif change == "insert":
            content = content[:at] + piece + content[at:]
        elif change == "overwrite":
            content = content[:at] + piece + content[at + len(piece) :]
        else:
            try:
                content = HARMLESS[format_][change](content)
            except (ValueError, IndexError, struct.error):
                continue
    return _Changed(format_, variant, content, changes)


# other examples each time: of so many changes, one that is refused without need is found in the course of time
@pytest.mark.slow
@settings(
    max_examples=sampled(250),
    derandomize=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(file=_changed())
def test_what_all_decoders_show_whole_passes(file: _Changed, tmp_path: Path) -> None:
    if _all_show_it_whole(file.format, file.content, file.original, tmp_path):
        event(f"{file.format} shown whole")
        assert shown(_result(file.content, tmp_path), first=True) == shown(_result_of_sound(file.original), first=True)
