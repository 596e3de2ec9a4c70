"""What the reference decoder of each format says about a file: programs of their own, apart from the service."""

import io
import re
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

SECONDS = 60
#: what djpeg says about headers, and no pixel depends on
_ODD_HEADERS = re.compile(r"Invalid SOS parameters|unknown JFIF revision|Unknown Adobe color transform")
_LOST_PIXELS = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression")
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
#: parts of libtiff that warn about pixel data; all others warn about directories
_LOST_IN_TIFF = re.compile(r"Fax|JPEG|LZW|ZIP|PackBits|Zlib")


@dataclass(frozen=True)
class Verdict:
    """What the decoders of a format say about one file."""

    #: complaints of the reference decoders, one for each; an empty one: it found nothing
    complaints: tuple[str, ...]
    #: the complaint of Pillow, which has newer decoders than the reference programs of a Linux distribution
    witness: str

    @property
    def damaged(self) -> bool:
        return all(self.complaints)

    @property
    def sound(self) -> bool:
        return not any(self.complaints) and not self.witness


def judge(format_: str, file: Path, *, first: bool) -> Verdict:
    """The verdict on all frames of a file, or on the first one alone."""
    return Verdict(tuple(decoder(file, first) for decoder in DECODERS[format_]), _pillow(file, first=False))


def run(*command: str | Path) -> tuple[int, str, bytes]:
    """A program's exit status, messages and output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=SECONDS, check=False)
    return done.returncode, done.stderr.decode(errors="replace"), done.stdout


def _djpeg(file: Path, _first: bool) -> str:
    status, messages, _ = run("djpeg", "-verbose", "-verbose", "-verbose", "-outfile", "/dev/null", file)
    lines = messages.splitlines()
    lost = [line for line in lines if _LOST_PIXELS.search(line) and not _ODD_HEADERS.search(line)]
    content = file.read_bytes()
    lost = [line for line in lost if not _is_padding(line, content)]
    return lost[0] if lost else (lines or ["failed"])[-1] if status not in {0, 2} else ""


def _is_padding(line: str, content: bytes) -> bool:
    """Whether what is left over before a marker is nothing but zeros and ones."""
    found = _SURPLUS.search(line)
    if not found:
        return False
    surplus, marker = int(found[1]), bytes((0xFF, int(found[2], 16)))
    return any(not content[: at.start()][-surplus:].strip(b"\0\xff") for at in re.finditer(re.escape(marker), content))


def _pngcheck(file: Path, _first: bool) -> str:
    status, _, output = run("pngcheck", "-q", file)
    return output.decode(errors="replace").strip() or "failed" if status else ""


def _dwebp(file: Path, first: bool) -> str:
    status, messages, _ = run("dwebp", file, "-o", "/dev/null")
    if "animated" not in messages:
        return messages.strip() or "failed" if status else ""
    return _webp_frames(file, first)


def _webp_frames(file: Path, first: bool) -> str:
    frame = file.with_suffix(".frame")
    for number in range(1, 2 if first else 4):
        for command in (
            ("webpmux", "-get", "frame", str(number), file, "-o", frame),
            ("dwebp", frame, "-o", "/dev/null"),
        ):
            status, messages, _ = run(*command)
            if status:
                return messages.strip() or "failed"
    return ""


def _webpinfo(file: Path, _first: bool) -> str:
    status, messages, output = run("webpinfo", file)
    return (messages + output.decode(errors="replace"))[-300:].strip() if status else ""


def _giflib(file: Path, first: bool) -> str:
    if first:
        return _pillow(file, first=True)
    with file.open("rb") as source:
        done = subprocess.run(["giftool"], stdin=source, capture_output=True, timeout=SECONDS, check=False)
    return done.stderr.decode(errors="replace").strip() or "failed" if done.returncode else ""


def _tiffinfo(file: Path, first: bool) -> str:
    status, messages, _ = run("tiffinfo", "-D", *(("-0",) if first else ()), file)
    lost = [line for line in messages.splitlines() if "Warning" not in line or _LOST_IN_TIFF.match(line)]
    return lost[0] if lost else "failed" if status else ""


def _avifdec(codec: str) -> Callable[[Path, bool], str]:
    def decode(file: Path, _first: bool) -> str:
        status, messages, output = run("avifdec", "-c", codec, file, file.with_suffix(".y4m"))
        return (messages + output.decode(errors="replace")).strip()[-300:] or "failed" if status else ""

    return decode


def _heif_convert(file: Path, _first: bool) -> str:
    status, messages, output = run("heif-convert", file, file.with_suffix(".png"))
    return (messages + output.decode(errors="replace")).strip()[-300:] or "failed" if status else ""


def _pillow(file: Path, *, first: bool) -> str:
    try:
        shown(file.read_bytes(), first=first)
    except Exception as error:  # noqa: BLE001 - whatever it raises is a complaint
        return f"{type(error).__name__}: {error}"
    return ""


DECODERS: dict[str, tuple[Callable[[Path, bool], str], ...]] = {
    "jpeg": (_djpeg,),
    "png": (_pngcheck,),
    "webp": (_dwebp, _webpinfo),
    "gif": (_giflib,),
    "tiff": (_tiffinfo,),
    "avif": (_avifdec("dav1d"), _avifdec("aom")),
    "heic": (_heif_convert,),
}


def shown(content: bytes, *, first: bool) -> list[bytes]:
    """The pixels of each frame as Pillow shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            frames = []
            for number in range(1 if first else getattr(image, "n_frames", 1)):
                image.seek(number)
                frames.append(image.convert("RGBA").tobytes())
            return frames
