"""Files of metrics whose room on the disk is taken before it is used.

prometheus_client maps sparse files into memory. On a disk that has become full, the first write to a page without a
block ends the process, with all its work, by SIGBUS. Where no room can be had, the values stay in memory and are not
scraped: metrics must never cost anything else.
"""

import mmap
import os
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

RESERVED = 256 * 1024  # bytes of each file: what the histograms of all operations take


class ReservedDict(MmapedDict):
    """One file, with blocks for all of it."""

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
