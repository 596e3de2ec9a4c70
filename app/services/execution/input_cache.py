"""A cache of inputs on the local disk, so that the branches of a job do not download the same file repeatedly.

Entries are named by the hash of their content, so they are never out of date. Tasks get hard links, so an entry can be
removed while a task reads it. All threads and processes of workers with the same spool share the cache.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app import disk

MAX_IDLE_SECONDS = 600  # a client that erases a job expects its upload to be gone soon
LOCKS = ".locks"  # folder with one empty lock file for each two-digit prefix; removing a lock file would be a race


@dataclass(frozen=True)
class InputCache:
    """A folder with a size limit in bytes; the least recently used files are removed first."""

    folder: Path
    limit_bytes: int

    def fetch(self, sha256: str, size: int, path: Path, download: Callable[[Path], None]) -> None:
        """Provide a file with this content at `path`; it must not be changed.

        Args:
            sha256: hash of the content.
            size: size of the content in bytes.
            path: path of the new file, on the file system of the cache.
            download: writes the file to a path and checks its content, or raises an error.
        """
        if size > self.limit_bytes:
            download(path)
            return
        try:
            self._fetch(sha256, size, path, download)
        except OSError as error:
            if not disk.is_full(error):
                raise
            self._evict(0)  # running tasks need the disk space more than the cache
            self._fetch(sha256, size, path, download)
        self._evict(self.limit_bytes)

    def _fetch(self, sha256: str, size: int, path: Path, download: Callable[[Path], None]) -> None:
        with self._only_one(sha256):
            if not self._link(sha256, size, path):
                download(path)
                self._keep(sha256, path)

    @contextmanager
    def _only_one(self, sha256: str) -> Iterator[None]:
        """Lock a content, so that others that need it wait; the lock of a killed process is released at once."""
        locks = self.folder / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / sha256[:2]).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _link(self, sha256: str, size: int, path: Path) -> bool:
        entry = self.folder / sha256
        try:
            os.link(entry, path)
            os.utime(entry)
        except OSError:  # usually because there is no entry
            path.unlink(missing_ok=True)
            return False
        if path.stat().st_size == size:
            return True
        path.unlink()  # a power failure can leave the name of a file without its bytes
        entry.unlink(missing_ok=True)
        return False

    def _keep(self, sha256: str, path: Path) -> None:
        with suppress(OSError):  # tasks also work without a cache: hard links may not be supported
            os.link(path, self.folder / sha256)

    def _evict(self, limit_bytes: int) -> None:
        total, oldest = 0, time.time() - MAX_IDLE_SECONDS
        for used_at, size, entry in sorted(self._entries(), reverse=True):
            total += size
            if total > limit_bytes or used_at < oldest:
                entry.unlink(missing_ok=True)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        for entry in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process evicts as well
                if entry.is_file():
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, entry
