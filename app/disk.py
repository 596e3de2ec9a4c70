"""Recognizes errors of a full disk, by their number or, if a library keeps only the text, by that."""

import errno
import os

NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT})
TEXTS = tuple(os.strerror(number) for number in NUMBERS)


def is_full(error: BaseException) -> bool:
    """True if the error says that a disk, or the caller's quota on it, has no room."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NUMBERS
    return any(text in str(error) for text in TEXTS)
