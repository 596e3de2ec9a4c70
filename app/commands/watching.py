"""`pixtools run --watch`: files that appear in folders."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
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
        self, folders: Sequence[Path], known: Iterable[Input], clock: Callable[[], float] = time.monotonic
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
        self._taken: dict[Path, Stamp] = {}
        self._failed: set[Path] = set()
        self._last: dict[Path, Stamp] = {}
        #: the first file of each folder and stem; the results of others have the suffix in their names
        self._first: dict[tuple[Path, str], Path] = {}
        for each in known:
            if each.path and (stamp := _stamp(each.path)):
                self._taken[each.path.resolve()] = stamp
                self._apart(each, each.path.resolve())

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
                yield self._apart(each, path)

    def note(self, path: Path, *, failed: bool) -> None:
        """Note how a file ended; one that failed is new again when it has changed."""
        if failed:
            self._failed.add(path.resolve())

    def _apart(self, each: Input, path: Path) -> Input:
        """The file with a stem that no other file of its folder has."""
        first = self._first.setdefault((each.folder, Path(each.name).stem), path)
        return each if first == path else replace(each, stem=each.name.replace(".", "_"))

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
