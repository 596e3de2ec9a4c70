"""Files that are not images, or odd ones: damaged headers, bombs, and two formats in one."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.hostile.wire import Hostile, form, upload

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF")
TREE = b'[{"op":"resize","width":16,"then":["convert_webp"]}]'


def encoded(format_: str, size: tuple[int, int] = (24, 16), colour: int = 90) -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, (colour, 200, 30)).save(out, format_)
    return out.getvalue()


def damaged(seed: int) -> Iterator[Hostile]:
    """Every format with a few bytes changed near its beginning, or cut."""
    chance = random.Random(seed)
    for format_ in FORMATS:
        whole = encoded(format_)
        for number in range(14):
            changed = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(4, min(len(whole), 120))] = chance.choice([0, 0xFF, chance.randrange(256)])
            yield _sent(f"{format_} changed {number}", bytes(changed))
        for number in range(6):
            yield _sent(f"{format_} cut {number}", whole[: chance.randrange(1, len(whole))])


def odd() -> Iterator[Hostile]:
    """Bombs, polyglots, and what is not a picture at all."""
    for name, content in _files().items():
        yield _sent(name, content)


def _sent(name: str, content: bytes) -> Hostile:
    return Hostile(name, form(upload(content, TREE)))


def _files() -> dict[str, bytes]:
    png, jpeg, gif = encoded("PNG"), encoded("JPEG"), encoded("GIF")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("bomb"), b"\0" * 5_000_000, zipfile.ZIP_DEFLATED)
    bomb = packed.getvalue()
    return {
        "a zip bomb": bomb,
        "nested packing": zlib.compress(zlib.compress(b"\0" * 10_000_000)),
        "png that unpacks to much": _png(1990, 2000, zlib.compress(b"\0" * (2000 * (1 + 3 * 1990)), 9)),
        "png that unpacks to more than it says": _png(8, 8, zlib.compress(b"\0" * 20_000_000, 9)),
        "png that unpacks to less than it says": _png(1000, 1000, zlib.compress(b"\0" * 10)),
        "png of no size": _png(0, 0, zlib.compress(b"")),
        "png of the greatest size": _png(2**31 - 1, 2**31 - 1, b""),
        "png with text that unpacks to much": _with_chunk(png, b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10_000_000)),
        "png with a profile that unpacks to much": _with_chunk(
            png, b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 10_000_000)
        ),
        "png of many chunks": _with_chunk(png, b"tEXt", b"a\0b", times=20_000),
        "png with a long chunk": png[:33] + struct.pack(">I4s", 2**31 - 1, b"tEXt") + png[33:],
        "png and zip": png + bomb,
        "gif and script": gif[:-1] + b"\x21\xfe\x10/*<script>*/=1;\x00\x3b",
        "jpeg and page": jpeg[:2] + b"\xff\xfe\x00\x20<script>alert(1)</script>     " + jpeg[2:],
        "jpeg of many segments": jpeg[:2] + b"\xff\xfe\x00\x02" * 100_000 + jpeg[2:],
        "jpeg of the greatest size": jpeg.replace(struct.pack(">HH", 16, 24), b"\xff\xff\xff\xff"),
        "jpeg with a bad exif": jpeg[:2] + b"\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff" + jpeg[2:],
        "pdf and jpeg": b"%PDF-1.7\n" + jpeg,
        "tiff that leads to itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "tiff of many directories": b"II*\0\x08\0\0\0" + b"".join(_directory(8 + 6 * n) for n in range(5000)),
        "tiff with a far directory": b"II*\0\xff\xff\xff\xff",
        "gif of many frames": gif[:-1] + gif[13 + 768 : -1] * 200 + b"\x3b",
        "gif of the greatest size": gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
        "webp that says too much": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
        "webp of no chunks": b"RIFF\x04\0\0\0WEBP",
        "avif of endless boxes": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08free" * 50_000,
        "avif with a box of no size": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf\0\0\0\0meta",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "svg bomb": b'<!DOCTYPE a [<!ENTITY a "aaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
        "pdf": b"%PDF-1.7\n%%EOF",
        "bmp": b"BM" + b"\xff" * 60,
        "psd": b"8BPS\0\1" + b"\xff" * 60,
        "postscript": b"%!PS\n/x 1 def",
        "mvg": b"push graphic-context\nimage over 0,0 0,0 'ephemeral:/etc/passwd'",
        "elf": b"\x7fELF" + b"\0" * 100,
        "text": b"hello",
        "one byte": b"\xff",
        "empty": b"",
        "signature of png alone": b"\x89PNG\r\n\x1a\n",
        "signature of jpeg alone": b"\xff\xd8\xff",
        "signatures in a row": b"\x89PNG\r\n\x1a\n\xff\xd8\xffGIF89aRIFF",
        "noise": random.Random(5).randbytes(50_000),
    }


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, data: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _with_chunk(png: bytes, name: bytes, content: bytes, times: int = 1) -> bytes:
    return png[:33] + _chunk(name, content) * times + png[33:]


def _directory(offset: int) -> bytes:
    return struct.pack("<HI", 0, offset + 6)
