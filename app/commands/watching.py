"""`pixtools run --watch`: files that appear in folders."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from app.commands.inputs import Input, in_folder

LOOK_SECONDS = 1.0  # between two looks at the folders

Stamp = tuple[int, int]  # size in bytes, and time of the last change in nanoseconds


class Watch:
    """Finds new files. A file counts as complete if two looks in succession find the same size and time of change.

    A file that failed counts as new again when it has changed: it may have been sent half written, since programs
    sometimes pause while they write.
    """

    def __init__(
        self, folders: Sequence[Path], known: Iterable[Path], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch folders.

        Args:
            folders: the folders; empty: there is never a new file.
            known: files that are not new.
            clock: seconds since any moment.
        """
        self._folders = folders
        self._clock = clock
        self._look_at = float("-inf")
        self._taken = {path.resolve(): stamp for path in known if (stamp := _stamp(path))}
        self._failed: set[Path] = set()
        self._last: dict[Path, Stamp] = {}

    def new(self) -> Iterator[Input]:
        """The files that are new and complete, at most one look per `LOOK_SECONDS`."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        before, self._last = self._last, {}
        for path, stamp, each in self._candidates():
            self._last[path] = stamp
            if before.get(path) == stamp:
                self._taken[path] = stamp
                self._failed.discard(path)
                yield each

    def note(self, path: Path, *, failed: bool) -> None:
        """Note how a file ended; one that failed is new again when it has changed."""
        if failed:
            self._failed.add(path.resolve())

    def _candidates(self) -> Iterator[tuple[Path, Stamp, Input]]:
        for each in (each for folder in self._folders for each in in_folder(folder)):
            stamp = _stamp(each.path) if each.path else None
            if each.path is None or stamp is None:
                continue
            path = each.path.resolve()
            if path not in self._taken or (path in self._failed and self._taken[path] != stamp):
                yield path, stamp, each


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is written; None: the file is empty or has been removed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None
