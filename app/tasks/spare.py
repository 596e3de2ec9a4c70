"""The spare process of a pixel worker, started and ended by `celery worker -Q default_queue --spare`.

It takes only small work and the start of trees. A message that a busy worker has prefetched waits for that worker.
Therefore pixel workers do not consume the small queue, whose messages are to find a free process within moments.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from celery import Celery, bootsteps
from celery.signals import celeryd_init, worker_shutting_down
from click import Option

from app.backoff import Backoff
from app.operations import Queue

log = logging.getLogger(__name__)

SPARE_OF = "PIXTOOLS_SPARE_OF"  # process id of the worker, set only for its spare process
RESTARTS = Backoff(first=1.0, longest=30.0)  # pauses before a process that has ended is restarted
END_SECONDS = 10.0  # time for small work when the worker has ended
PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies

_running: list["Spare"] = []


class Spare(bootsteps.StartStopStep):  # type: ignore[misc]  # untyped base
    """Keeps a spare process running next to the worker."""

    def __init__(self, worker: Any, spare: bool = False, **options: Any) -> None:
        super().__init__(worker, **options)
        self.enabled = spare
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        """Start the thread that keeps the process running."""
        _running[:] = [self]
        self._thread = threading.Thread(target=self._run, args=(worker.hostname,), name="spare", daemon=True)
        self._thread.start()

    def stop(self, _worker: Any) -> None:
        """Stop the process after its current work, and wait for that."""
        self.end()
        if self._thread:
            self._thread.join(END_SECONDS)

    terminate = stop

    def end(self) -> None:
        """Ask the process to take no more work."""
        self._stopping.set()
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def _run(self, hostname: str) -> None:
        for pause in RESTARTS.pauses():
            self._process = subprocess.Popen(_command(hostname), env=_environment())  # noqa: S603 - all of it is ours
            if self._stopping.is_set():  # `stop` was called during the start
                self._process.terminate()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            log.warning("spare_ended", extra={"exit_code": code})
            if self._stopping.wait(pause):
                return


def _command(hostname: str) -> list[str]:
    pool = ["-P", "threads", "-c", "1"]  # pixels are in a process of their own anyway
    alone = ["--without-mingle", "--without-gossip"]  # workers need nothing of each other
    worker = ["-A", "app.tasks.celery_app", "worker", "-Q", Queue.SMALL.value, *pool, "-n", f"spare-{hostname}", *alone]
    return [sys.executable, "-m", "celery", *worker]


def _environment() -> dict[str, str]:
    # the worker serves the metrics of both, whose processes share a folder
    return {**os.environ, SPARE_OF: str(os.getpid()), "PIXTOOLS_METRICS_PORT": ""}


@celeryd_init.connect
def _die_with_the_worker(**_: object) -> None:
    """Have the kernel end this process when its worker dies, since a killed worker cannot end it.

    Raises:
        SystemExit: the worker was killed while this process started.
    """
    if SPARE_OF not in os.environ:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if not is_one():
        raise SystemExit("The worker of this spare process has ended.")


@worker_shutting_down.connect
def _end(**_: object) -> None:
    for spare in _running:
        spare.end()


def is_one() -> bool:
    """Whether this process is the spare process of a worker."""
    return os.environ.get(SPARE_OF) == str(os.getppid())


def add_to(app: Celery) -> None:
    """Add the option `--spare` to Celery's command `worker`."""
    app.user_options["worker"].add(
        Option(["--spare"], is_flag=True, help="Start another process, which takes small work only.")
    )
    app.steps["worker"].add(Spare)
