"""Stops the servers that a test process has started, even if the process dies without doing so.

A server's processes are found by a mark in their environment, which children inherit (Erlang's port mapper detaches
from its parent), and by the session that the server leads (Redis and PostgreSQL overwrite their environment with a
title). The kernel's parent death signal is no alternative: it is sent when the *thread* that started the server ends,
and it does not reach the server's own children.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

MARK = "PIXTOOLS_TEST_SERVER"  # holds "<owner>/<server>"
POLL = 0.2  # seconds
KILL_TIMEOUT = 10.0  # seconds for killed processes to disappear

Leaders = Mapping[int, float]  # by process id of a session's leader: its start time, since ids are reused


def find(mark: str, leaders: Leaders) -> list[psutil.Process]:
    """The running processes whose mark starts with `mark` or that are in these sessions, with their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if _of_session(process, leaders) or process.environ().get(MARK, "").startswith(mark):
                found |= {one.pid: one for one in (process, *process.children(recursive=True)) if one.pid not in found}
    return [process for process in found.values() if _alive(process)]


def kill(mark: str, leaders: Leaders) -> None:
    """Send SIGKILL to all processes that `find` finds, until none is left."""
    deadline = time.monotonic() + KILL_TIMEOUT
    while processes := find(mark, leaders):
        if time.monotonic() > deadline:
            raise TimeoutError(f"These processes survive SIGKILL: {processes}")
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def start(owner: str, scratch: Path) -> subprocess.Popen[bytes]:
    """Start a watcher of this process, in another session, so that Ctrl-C and signals to the group do not reach it."""
    return subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), owner, scratch],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def report(scratch: Path, leader: int, left_behind: Iterable[Path]) -> float:
    """Register a session leader and files to remove with the watcher; returns the start time of the leader."""
    born = float(psutil.Process(leader).create_time())
    with (scratch / "leaders").open("a") as file:
        file.write(f"{leader} {born}\n")
    with (scratch / "left-behind").open("a") as file:
        file.writelines(f"{path}\n" for path in left_behind)
    return born


def watch(parent: int, owner: str, scratch: Path) -> None:
    """Wait for the end of `parent`, then end its servers and remove `scratch`."""
    while os.getppid() == parent:
        time.sleep(POLL)
    for _ in range(2):  # a server that was just starting has neither mark nor report the first time
        kill(owner, _reported(scratch))
        time.sleep(1)
    for path in _lines(scratch / "left-behind"):
        Path(path).unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _reported(scratch: Path) -> Leaders:
    pairs = (line.split() for line in _lines(scratch / "leaders"))
    return {int(leader): float(born) for leader, born in pairs}


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _of_session(process: psutil.Process, leaders: Leaders) -> bool:
    leader = os.getsid(process.pid)
    if leader not in leaders:
        return False
    try:
        return abs(float(psutil.Process(leader).create_time()) - leaders[leader]) < 1
    except psutil.NoSuchProcess:
        return True  # the id is not reused while the session has members


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
