"""Fits the work of an encoder into the memory of the process."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyvips

from app.errors import ImageTooLarge
from app.imaging.memory import WITHOUT_PIXELS, Work, attempts, held, limit, too_much

log = logging.getLogger(__name__)


#: excerpts from the messages of libvips, libjpeg, libheif and others
OUT_OF_MEMORY = ("out of memory", "Insufficient memory", "failed to allocate", "emory allocation", "Cannot allocate")
#: start of libaom's message; libtiff's message for a damaged file starts the same way
OF_ENCODERS = "Failed to allocate"


def encode(op: str, params: Any, image: pyvips.Image, write: Callable[[Work], None]) -> Work:
    """Encode an image within the memory limit.

    Args:
        op: name of the encoder.
        params: parameters of the encoder.
        image: the image to write, in memory.
        write: runs the encoder; called again with less demanding work if the encoder ran out of memory.

    Returns:
        The work that was done.

    Raises:
        ImageTooLarge: the encoder needs more memory than there is, however it is set.
    """
    ways = _fitting(op, params, image)
    for way, work in enumerate(ways, 1):
        try:
            with _threads(work.threads):
                write(work)
        except pyvips.Error as error:
            if way == len(ways) or not is_out_of_memory(error, encoding=True):
                raise
            log.warning("an encoder ran out of memory that was predicted to suffice; trying with less: %s", error)
        else:
            return work
    raise AssertionError


def is_out_of_memory(error: pyvips.Error, *, encoding: bool = False) -> bool:
    """True if a library could not allocate memory."""
    said = str(error)
    return any(words in said for words in OUT_OF_MEMORY) or (encoding and OF_ENCODERS in said)


def _fitting(op: str, params: Any, image: pyvips.Image) -> list[Work]:
    pixels, alpha = image.width * image.height, bool(image.hasalpha())
    ways = list(attempts(Work(op, params, pixels, alpha=alpha, threads=pyvips.concurrency_get())))
    most = limit()
    if most is None or pixels <= WITHOUT_PIXELS:
        return ways
    free = most - held()
    if fitting := [work for work in ways if work.encoding <= free]:
        return fitting
    least = most - free + min(work.encoding for work in ways)
    raise ImageTooLarge(too_much(op, pixels, least, most), limit=most, value=least)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit the number of threads within the context."""
    before = pyvips.concurrency_get()
    pyvips.concurrency_set(count)
    try:
        yield
    finally:
        pyvips.concurrency_set(before)
