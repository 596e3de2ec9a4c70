"""Runs commands in a network namespace with only a loopback interface, so that they cannot reach other machines."""

import os
import shutil
import socket
import subprocess

BRING_UP = 'ip link set lo up && exec "$@"'


def isolated(command: list[str]) -> list[str]:
    """The command line that runs a command in its own namespace, as the same user."""
    as_user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    return ["unshare", "--net", *as_user, "sh", "-c", BRING_UP, "sh", *command]


def missing() -> str | None:
    """The reason why this machine cannot isolate commands; None: it can."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"there is no program `{program}`"
    tried = subprocess.run(isolated(["true"]), capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network namespace may be made: {tried.stderr.strip()}"


def is_isolated() -> bool:
    """Whether this process reaches nothing but loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]
