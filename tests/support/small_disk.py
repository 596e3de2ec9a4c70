"""A disk of a few megabytes that tests can fill: a tmpfs."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 64 * 1024  # bytes
PAUSE = 0.02  # seconds, after which space that was freed is filled again
MEGABYTE = 1024 * 1024
INSIDE = "PIXTOOLS_TEST_NAMESPACE"  # set if the tests run as root of their own namespace


class CannotMount(RuntimeError):
    """This user is not allowed to mount file systems."""


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[Path]:
    """Create a folder and mount the disk on it."""
    folder.mkdir(parents=True)
    options = f"size={megabytes}m,mode=700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMount(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def run_in_namespace(test: str) -> subprocess.CompletedProcess[str]:
    """Run one test as root of a user namespace, in which it can mount file systems."""
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, test], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True, check=False, timeout=170
    )


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Keep a disk full within the block: freed space is filled again at once."""
    stop = threading.Event()
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        _fill(file.fileno())
        keeper = threading.Thread(target=_keep_full, args=(file.fileno(), stop), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()
            ballast.unlink()


def _keep_full(file: int, stop: threading.Event) -> None:
    while not stop.wait(PAUSE):
        _fill(file)


def _fill(file: int) -> None:
    try:
        while True:
            os.write(file, bytes(PIECE))
    except OSError:
        return
