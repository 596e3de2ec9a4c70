"""One process of `Sandbox`: `python -m app.imaging.child SOCKET THREADS BYTES NETWORK` renders on request.

It ends when the parent closes the socket, even during a render. An unexpected error ends it too, with a traceback on
standard error; the parent then sees the socket close.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

from app.errors import PixToolsError
from app.formats import FORMATS
from app.imaging import libvips
from app.imaging.pipeline import render
from app.imaging.recipe import Monitor, OnProgress
from app.references import resolve

NICE = 10  # pixel work yields to the server with which it shares the cores

Jobs = SimpleQueue[tuple[Any, ...]]

ERROR_FIELDS = ("message", "pointer", "limit", "value", "retry_after", "extra")


def main(socket: int, threads: int, memory_bytes: int, denoiser: dict[str, Any] | None) -> None:
    """Serve until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the socket
    os.nice(NICE)
    _limit(memory_bytes)
    libvips.configure(threads)
    _load_decoders()
    connection: Connection[bytes, tuple[Any, ...]] = Connection(socket)
    if denoiser:
        started = time.monotonic()
        _load_network(denoiser)
        connection.send_bytes(json.dumps({"progress": None, "loaded": time.monotonic() - started}).encode())
    jobs: Jobs = SimpleQueue()
    Thread(target=_receive, args=(connection, jobs), daemon=True).start()
    while True:
        connection.send_bytes(_answer(jobs.get(), partial(_tell, connection)))


def _load_decoders() -> None:
    """Load all decoders at the start, so that the memory they take is known before an image is opened."""
    for format_ in FORMATS.values():
        for reference in format_.decoders:
            resolve(reference)


def _load_network(denoiser: dict[str, Any]) -> None:
    importlib.import_module("app.ml.denoise").configure(**denoiser)  # imported late: most children never need it


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a user's picture
    if memory_bytes and sys.platform == "linux":  # macOS accepts the limit and ignores it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _receive(connection: "Connection[bytes, tuple[Any, ...]]", jobs: Jobs) -> None:
    """Receive requests in a separate thread, which notices the end of the parent even while libvips works."""
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _tell(connection: "Connection[bytes, tuple[Any, ...]]", progress: float | None) -> None:
    connection.send_bytes(json.dumps({"progress": progress}).encode())


def _answer(job: tuple[Any, ...], on_progress: OnProgress) -> bytes:
    # JSON, because the other side must not unpickle what a process that decodes hostile bytes has written.
    monitor = Monitor(on_progress)
    began = time.process_time()
    try:
        source, stages, targets, limits = job
        rendered = render(source, stages, targets, limits, monitor)
        monitor.used["cpu_seconds"] = round(time.process_time() - began, 4)
        files = [file and asdict(file) for file in rendered]
        answer: dict[str, Any] = {"rendered": files, "reports": monitor.reports, "used": monitor.used}
    except PixToolsError as error:
        answer = {"error": type(error).__name__, **{name: getattr(error, name) for name in ERROR_FIELDS}}
    return json.dumps(answer).encode()


if __name__ == "__main__":
    main(*map(json.loads, sys.argv[1:]))
