"""The processes of a deployment, and `pixtools` commands for it."""

import subprocess
from pathlib import Path

from .deployment import Deployment
from .preloaded import run


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


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
