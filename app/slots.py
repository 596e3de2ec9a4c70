"""Slots: the metrics of several processes in one folder, in which each process writes its own files.

prometheus_client names such files by process id and never removes them, so a pool that replaces its children would fill
the folder. Here a process takes the lowest free slot and locks it until it ends; the next process in that slot
continues its counters. So there are never more sets of files than simultaneous processes, and sums only grow.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name
LOCK = re.compile(r"slot-(\d+)\.lock")


@dataclass
class _Held:
    pid: int = 0
    slot: int = 0
    file: int = -1


_held = _Held()


def folder() -> Path | None:
    """The folder with the metrics of this command's processes; None: a single process keeps them in memory."""
    path = os.environ.get(FOLDER)
    return Path(path) if path else None


def share(parent: Path) -> None:
    """Make this process and its children keep their metrics in one folder. Call this before `app.metrics` is imported.

    Args:
        parent: the folder in which the shared one is created, and abandoned ones are removed.
    """
    if folder():
        return
    for old in parent.glob("metrics-*"):
        if is_abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    path = parent / f"metrics-{os.getpid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[FOLDER] = str(path)


def current() -> int:
    """The slot of this process; a child takes a slot of its own."""
    if _held.pid != os.getpid():
        if _held.file >= 0:
            os.close(_held.file)  # inherited by a fork; the parent keeps its lock
        _held.slot, _held.file = _take(Path(os.environ[FOLDER]))
        _held.pid = os.getpid()
    return _held.slot


def _take(path: Path) -> tuple[int, int]:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in count():
        file = os.open(_lock(path, slot), os.O_RDWR | os.O_CREAT, 0o600)
        if _try_lock(file):
            _forget_gauges(path, slot)
            return slot, file
        os.close(file)
    raise AssertionError("unreachable")


def _lock(path: Path, slot: int) -> Path:
    return path / f"slot-{slot}.lock"


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_gauges(path: Path, slot: int) -> None:
    for file in path.glob(f"gauge_*_{slot}.db"):
        file.unlink(missing_ok=True)


def bury_dead(path: Path) -> None:
    """Remove the gauges of processes that have ended; their counters stay."""
    for slot in _slots(path):
        with _if_free(path, slot) as free:
            if free:
                _forget_gauges(path, slot)


def is_abandoned(path: Path) -> bool:
    """Whether a folder is no longer used by any process."""

    def is_free(slot: int) -> bool:
        with _if_free(path, slot) as free:
            return free

    return all(is_free(slot) for slot in _slots(path))


def _slots(path: Path) -> list[int]:
    return [int(match[1]) for file in path.iterdir() if (match := LOCK.fullmatch(file.name))]


@contextmanager
def _if_free(path: Path, slot: int) -> Iterator[bool]:
    """Lock a slot within the block; yields False if another process has it."""
    file = os.open(_lock(path, slot), os.O_RDWR)
    try:
        yield _try_lock(file)
    finally:
        os.close(file)
