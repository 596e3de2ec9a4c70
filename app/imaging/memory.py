"""The measured memory use of encoders. It is checked before an encoder runs, so that no process dies of it.

This module does not need libvips, since the API uses it as well.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.parameters import AvifParams, WebpParams

BASE = 280_000_000  # bytes of a process that does nothing, with four threads per image and NumPy
#: bytes for each pixel, in addition to the image itself. Measured by the peak of the address space on photographs of 12
#: and 49 megapixels: JPEG 13.5, PNG 6.8, GIF 14.0, TIFF 2.0, WebP 7.8, AVIF 25.7 (4:2:0), 41.4 (4:4:4), 44.3 (lossless)
PER_PIXEL = {"convert_jpeg": 15, "convert_png": 8, "convert_gif": 16, "convert_tiff": 4, "convert_webp": 9}
WEBP_ALPHA = 37  # measured: 34.7
WEBP_LOSSLESS_FAST, WEBP_LOSSLESS = 25, 38  # 22.2 with an effort of 0, 36.3 above
AVIF, AVIF_FULL_CHROMA = 27, 45
AVIF_EFFORT = 6, 3  # more for each pixel from this effort on
AVIF_ALPHA = 21  # more: a second picture
AVIF_THREADS = 5  # more with several threads
FULL_CHROMA_FROM = 90  # quality from which the encoder's own choice is 4:4:4
WITHOUT_PIXELS = 250_000  # an image with fewer pixels always fits into memory


@dataclass(frozen=True)
class Work:
    """The work of an encoder, which determines how much memory it needs."""

    op: str
    params: Any
    #: sum over all frames
    pixels: int
    #: bytes per pixel in memory
    pixel_bytes: int = 3
    alpha: bool = False
    threads: int = 1

    @property
    def needed(self) -> int:
        """The memory that the whole process needs, in bytes."""
        return BASE + self.pixels * self.pixel_bytes + self.encoding

    @property
    def encoding(self) -> int:
        """The memory that encoding needs in addition to the pixels, in bytes."""
        return self.pixels * _RATES.get(self.op, _plain)(self)


def _plain(work: Work) -> int:
    return PER_PIXEL.get(work.op, 0)


def _webp(work: Work) -> int:
    if isinstance(work.params, WebpParams) and work.params.lossless:
        return WEBP_LOSSLESS if work.params.effort else WEBP_LOSSLESS_FAST
    return WEBP_ALPHA if work.alpha else PER_PIXEL[work.op]


def _avif(work: Work) -> int:
    params = work.params
    if not isinstance(params, AvifParams):
        return AVIF_FULL_CHROMA
    extra, effort = AVIF_EFFORT
    rate = AVIF_FULL_CHROMA if has_full_chroma(params) else AVIF
    rate += extra if params.effort >= effort else 0
    return rate + (AVIF_ALPHA if work.alpha else 0) + (AVIF_THREADS if work.threads > 1 else 0)


_RATES: dict[str, Callable[[Work], int]] = {"convert_webp": _webp, "convert_avif": _avif}


def has_full_chroma(params: AvifParams) -> bool:
    """True if AVIF may be written without chroma subsampling; with `min_ssim` any quality is possible."""
    if params.chroma == "auto":
        return params.lossless or params.quality >= FULL_CHROMA_FROM or params.min_ssim is not None
    return params.lossless or params.chroma == "4:4:4"


def frugal(params: Any) -> Any:
    """Parameters that need less memory and still meet the request; unchanged if there are none."""
    if isinstance(params, AvifParams) and params.chroma == "auto" and not params.lossless:
        return params.model_copy(update={"chroma": "4:2:0"})
    return params


def limit() -> int | None:
    """The limit on the address space of this process in bytes; None: there is no limit."""
    if sys.platform != "linux":
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if most == resource.RLIM_INFINITY else most


def held() -> int:
    """The current size of this process's address space in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def attempts(work: Work) -> Iterator[Work]:
    """The work, then variants of it that need less memory."""
    yield work
    if work.threads > 1:
        yield replace(work, threads=1)
    if (params := frugal(work.params)) != work.params:
        yield replace(work, params=params, threads=1)


def too_much(op: str, pixels: int, needed: int, most: int) -> str:
    """The message for work that exceeds the memory limit, in bytes."""
    advice = "; smaller images, `chroma` 4:2:0 and no `lossless` take less" if op == "convert_avif" else ""
    return f"{op} of {pixels} pixels takes {needed} bytes of memory; the limit is {most}{advice}."
