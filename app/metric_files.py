"""Files of metrics whose disk space is allocated in advance.

prometheus_client maps sparse files into memory. On a full disk, the first write to a page without a block would kill
the process by SIGBUS. Metrics must never disturb the work itself, so here blocks are allocated in advance. If that
fails, the values stay in memory and are not scraped.
"""

import mmap
import os
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

RESERVED = 256 * 1024  # bytes per file: enough for the histograms of all operations


class ReservedDict(MmapedDict):
    """A file of metrics with all its blocks allocated; without a file, an anonymous one in memory."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if read_mode or _reserved(filename, RESERVED):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        else:
            super().__init__(f"/proc/self/fd/{os.memfd_create('metrics')}")  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        longest = self._used + 2 * len(key.encode()) + 32
        if longest > self._capacity and not _reserve(self._f.fileno(), 2 * self._capacity):
            self._move_to_memory()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _move_to_memory(self) -> None:
        held: Any = os.fdopen(os.memfd_create("metrics"), "r+b")
        held.write(self._m[:])
        held.flush()
        self._f.close()
        self._f, self._m = held, mmap.mmap(held.fileno(), self._capacity)


def _reserved(filename: str, length: int) -> bool:
    file = os.open(filename, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return _reserve(file, length)
    finally:
        os.close(file)


def _reserve(file: int, length: int) -> bool:
    try:
        os.posix_fallocate(file, 0, length)
    except OSError:
        return False
    return True
