"""A disk of a few megabytes that tests may fill: a tmpfs."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 64 * 1024  # bytes
PAUSE = 0.02  # seconds; what others free meanwhile is taken
MEGABYTE = 1024 * 1024
INSIDE = "PIXTOOLS_TEST_NAMESPACE"  # set where the tests are root of a namespace of their own


class CannotMount(RuntimeError):
    """This user may not mount anything."""


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[Path]:
    """Mount it on a folder, which is made."""
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
    """Run one test as root of a user namespace, who may mount there."""
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, test], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True, check=False, timeout=170
    )


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Keep a disk full: what is freed is taken at once."""
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
