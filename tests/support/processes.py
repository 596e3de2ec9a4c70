"""The processes of a deployment, and `pixtools` commands for it."""

import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .deployment import ApiClient, Deployment
from .preloaded import run
from .waiting import until

LONG = {"op": "convert_avif", "effort": 9}  # with any photograph: many seconds of pixel work


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `pixtools` command with the settings of the server."""
    return run(["app", *arguments], deployment.variables())


def pixtools(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `pixtools` command as a client of the server."""
    return run(["app", *arguments], {**deployment.variables(), "PIXTOOLS_URL": deployment.url})


def listed(deployment: Deployment) -> list[str]:
    """The lines of `pixtools server dlq list`."""
    return command(deployment, "server", "dlq", "list").stdout.splitlines()


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


@contextmanager
def held(deployment: Deployment, api: ApiClient, job_id: str) -> Iterator[None]:
    """Hold a job in the middle of its pixel work, where it takes no CPU time, until the end of the block.

    Every step must have started by itself, each in a process of its own, and must take seconds.
    """

    def running() -> bool:
        return {step["status"] for step in api.job(job_id)["steps"]} == {"running"}

    until(lambda: running() and pixel_processes(deployment))
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
