"""The processes of a deployment, and `pixtools` commands for it."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from .deployment import ApiClient, Deployment
from .preloaded import Process, preloaded, run
from .waiting import until

LONG = {"op": "convert_avif", "effort": 9}  # with any photograph: many seconds of pixel work


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `pixtools` command with the settings of the server."""
    return run(["app", *arguments], deployment.variables())


def pixtools(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `pixtools` command as a client of the server."""
    return run(["app", *arguments], client_of(deployment))


def client_of(deployment: Deployment) -> dict[str, str]:
    """The environment of commands that are clients of the server."""
    return {**deployment.variables(), "PIXTOOLS_URL": deployment.url}


@dataclass(frozen=True)
class Command:
    """A `pixtools` command that has been started."""

    process: Process
    out: Path
    err: Path

    def ended(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for its end; what it wrote on a terminal is not in the result."""
        code = self.process.wait(timeout)
        out, err = (path.read_text() if path.is_file() else "" for path in (self.out, self.err))
        return subprocess.CompletedProcess(self.process.args, code, out, err)


@contextmanager
def started(
    environment: Mapping[str, str],
    *arguments: str,
    first: str = "",
    folder: Path | None = None,
    inputs: Path = Path(os.devnull),
    out: Path | None = None,
    err: Path | None = None,
) -> Iterator[Command]:
    """A `pixtools` command, which is killed if it still runs at the end of the block.

    Args:
        environment: all of its environment variables.
        arguments: its arguments.
        first: statements that its process runs first.
        folder: its working folder.
        inputs: file that is its standard input.
        out: file that is its standard output; default: one of its own.
        err: the same for standard error.
    """
    code = f"{first}\nfrom app.cli import main\nmain()"
    parent = preloaded(["app"], environment)
    with tempfile.TemporaryDirectory() as own:
        out, err = out or Path(own, "out"), err or Path(own, "err")
        process = parent.start(["-c", code, *arguments], environment, out, err, inputs=inputs, folder=folder)
        try:
            yield Command(process, out, err)
        finally:
            process.kill()
            process.wait(30)


@contextmanager
def terminal() -> Iterator[tuple[Path, bytearray]]:
    """A terminal: its file, and what has been shown on it; that is complete after the block."""
    ours, theirs = os.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    try:
        yield Path(os.ttyname(theirs)), shown
    finally:
        os.close(theirs)
        reader.join(30)
        os.close(ours)


def _read(ours: int, shown: bytearray) -> None:
    with suppress(OSError):  # the other end is closed
        while True:
            shown += os.read(ours, 65_536)


def listed(deployment: Deployment) -> list[str]:
    """The lines of `pixtools server dlq list`."""
    return command(deployment, "server", "dlq", "list").stdout.splitlines()


def logged(log: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log, without one that is still being written; Celery prints a banner before it logs."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def pixel_processes(deployment: Deployment) -> set[int]:
    """The process ids of a deployment's running pixel processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            arguments = (path.parent / "cmdline").read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"app.imaging.child" in arguments and _descends(parent, {process.pid for process in deployment.processes}):
            found.add(int(path.parent.name))
    return found


def suspend(processes: Collection[int]) -> None:
    """Stop processes, so that their work takes as long as a test needs."""
    _send(processes, signal.SIGSTOP)


def resume(processes: Collection[int]) -> None:
    """Let suspended processes continue."""
    _send(processes, signal.SIGCONT)


def kill_all(processes: Collection[int]) -> None:
    """Send SIGKILL to processes, some of which may have ended already."""
    _send(processes, signal.SIGKILL)


def _send(processes: Collection[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):  # it has ended, or was killed
            os.kill(pid, number)


@contextmanager
def frozen(processes: Collection[int]) -> Iterator[None]:
    """Suspend processes within the block."""
    suspend(processes)
    try:
        yield
    finally:
        resume(processes)


def _at_work(processes: Collection[int]) -> set[int]:
    """Those that take CPU time."""

    def spent() -> dict[int, float]:
        found = {}
        for pid in processes:
            with suppress(psutil.NoSuchProcess):
                found[pid] = sum(psutil.Process(pid).cpu_times()[:2])
        return found

    before = spent()
    time.sleep(0.1)
    return {pid for pid, seconds in spent().items() if seconds > before.get(pid, seconds)}


@contextmanager
def held(deployment: Deployment, api: ApiClient, job_id: str) -> Iterator[None]:
    """Hold a job in the middle of its pixel work, where it takes no CPU time, until the end of the block.

    Every step must have started by itself, each in a process of its own, and must take seconds.
    """
    steps = len(api.job(job_id)["steps"])

    def running() -> bool:
        return {step["status"] for step in api.job(job_id)["steps"]} == {"running"}

    # others may be idle, and that of a step may start a moment after the step
    until(lambda: running() and len(_at_work(pixel_processes(deployment))) >= steps)
    with frozen(pixel_processes(deployment)):
        assert running(), "the work has ended before its processes were suspended"
        yield


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
