"""Fits the work of an encoder into the memory of the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyvips

from app.errors import ImageTooLarge
from app.imaging.memory import WITHOUT_PIXELS, Work, attempts, held, limit, too_much


def fitted(op: str, params: Any, image: pyvips.Image) -> Work:
    """How an image, which is in memory, is encoded within the limit.

    Raises:
        ImageTooLarge: in no way.
    """
    pixels, alpha = image.width * image.height, bool(image.hasalpha())
    work = Work(op, params, pixels, alpha=alpha, threads=pyvips.concurrency_get())
    most = limit()
    if most is None or pixels <= WITHOUT_PIXELS:
        return work
    free = most - held()
    for attempt in attempts(work):
        if attempt.encoding <= free:
            return attempt
    least = most - free + min(attempt.encoding for attempt in attempts(work))
    raise ImageTooLarge(too_much(op, pixels, least, most), limit=most, value=least)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let so many threads work meanwhile."""
    before = pyvips.concurrency_get()
    pyvips.concurrency_set(count)
    try:
        yield
    finally:
        pyvips.concurrency_set(before)
