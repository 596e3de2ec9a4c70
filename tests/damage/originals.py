"""Small sound files of every format and many variants, made from nothing."""

import io
from functools import cache
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageFile, PngImagePlugin

WIDTH, HEIGHT = 96, 72
FORMATS = ("jpeg", "png", "webp", "gif", "tiff", "avif", "heic")


@cache
def originals(format_: str) -> dict[str, bytes]:
    """Files of a format by the name of their variant."""
    return {"jpeg": _jpegs, "png": _pngs, "webp": _webps, "gif": _gifs, "tiff": _tiffs, "avif": _avifs, "heic": _heics}[
        format_
    ]()


def picture(seed: int = 3, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Gradients, edges and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, y * 255 // height, (x * y + 40 * seed) % 256]
    grain = rng.normal(0, 6, (height, width, 3))
    pixels = np.stack(planes, -1) + grain
    pixels[(x // 12 + y // 12) % 3 == 0] *= 0.5
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _transparent(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _animated(**options: Any) -> dict[str, Any]:
    return {"save_all": True, "append_images": [picture(seed) for seed in (4, 5)], "duration": 50, **options}


def _jpegs() -> dict[str, bytes]:
    image = picture()
    exif = Image.Exif()
    exif[0x013B] = "Ann"
    return {
        "420": saved(image, "JPEG", quality=85),
        "444": saved(image, "JPEG", quality=92, subsampling=0),
        "422 with EXIF": saved(image, "JPEG", quality=80, subsampling=1, exif=exif),
        "progressive": saved(image, "JPEG", quality=85, progressive=True),
        "restarts": saved(image, "JPEG", quality=85, restart_marker_blocks=6),
        "grey": saved(image.convert("L"), "JPEG", quality=85),
        "CMYK": saved(image.convert("CMYK"), "JPEG", quality=85),
        "optimised": saved(image, "JPEG", quality=60, optimize=True),
    }


def _pngs() -> dict[str, bytes]:
    image = picture()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "made by a test")
    return {
        "rgb": saved(image, "PNG", pnginfo=text),
        "alpha": saved(_transparent(image), "PNG"),
        "palette": saved(image.quantize(32), "PNG"),
        "grey": saved(image.convert("L"), "PNG"),
        "two levels": saved(image.convert("1"), "PNG"),
        "16 bit": saved(Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257), "PNG"),
        "animated": saved(image, "PNG", **_animated()),
        "many chunks": _split(saved(image, "PNG")),
    }


def _split(png: bytes) -> bytes:
    """The file with its pixels in many small chunks."""
    at = png.index(b"IDAT")
    data = png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at], "big")]
    out = io.BytesIO()
    for start in range(0, len(data), 700):
        PngImagePlugin.putchunk(out, b"IDAT", data[start : start + 700])
    return png[: at - 4] + out.getvalue() + png[at + 8 + len(data) :]


def _webps() -> dict[str, bytes]:
    image = picture()
    return {
        "lossy": saved(image, "WEBP", quality=85),
        "lossless": saved(image, "WEBP", lossless=True),
        "lossy with alpha": saved(_transparent(image), "WEBP", quality=80),
        "lossless with alpha": saved(_transparent(image), "WEBP", lossless=True),
        "with XMP": saved(image, "WEBP", quality=70, xmp=b"<x/>"),
        "animated": saved(image, "WEBP", quality=70, **_animated()),
    }


def _gifs() -> dict[str, bytes]:
    image = picture()
    return {
        "still": saved(image.quantize(64), "GIF"),
        "interlaced": saved(image.quantize(256), "GIF", interlace=True),
        "two levels": saved(image.convert("1"), "GIF"),
        "with a comment": saved(image.quantize(16), "GIF", comment=b"made by a test"),
        "large": saved(picture(8, 200, 160).quantize(256), "GIF", interlace=False),
        "animated": saved(image.quantize(32), "GIF", **_animated(loop=0)),
    }


def _tiffs() -> dict[str, bytes]:
    image = picture()
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 1 << 20)
    return {
        "none": saved(image, "TIFF"),
        "LZW": saved(image, "TIFF", compression="tiff_lzw"),
        "deflate": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "PackBits": saved(image.quantize(16).convert("L"), "TIFF", compression="packbits"),
        "fax": saved(image.convert("1"), "TIFF", compression="group4"),
        "JPEG": saved(image, "TIFF", compression="jpeg"),
        "64 bit": saved(image, "TIFF", big_tiff=True, compression="tiff_lzw"),
        "pages": saved(image, "TIFF", compression="tiff_lzw", save_all=True, append_images=[picture(4)]),
    }


def _avifs() -> dict[str, bytes]:
    image = picture()
    return {
        "420": saved(image, "AVIF", quality=70, speed=8),
        "444": saved(image, "AVIF", quality=80, speed=8, subsampling="4:4:4"),
        "alpha": saved(_transparent(image), "AVIF", quality=70, speed=8),
        "with XMP": saved(image, "AVIF", quality=60, speed=8, xmp=b"<x/>"),
        "animated": saved(image, "AVIF", quality=60, speed=8, **_animated()),
    }


def _heics() -> dict[str, bytes]:
    def made(image: Image.Image, **options: Any) -> bytes:
        out = io.BytesIO()
        pillow_heif.from_pillow(image).save(out, **options)
        return out.getvalue()

    image = picture()
    return {
        "420": made(image, quality=80),
        "444": made(image, quality=80, chroma=444),
        "alpha": made(_transparent(image), quality=80),
        "grey": made(image.convert("L"), quality=80),
    }
