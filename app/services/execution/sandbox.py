"""Renders images in child processes, which have limits on time and memory, and no credentials.

A codec that crashes fails one step, but never the process that serves requests or takes tasks. A render that is no
longer wanted is ended by killing its child, since the libraries cannot be cancelled.

The children are not started by `multiprocessing`, whose spawned processes import the parent's main module. So a child
has no database, no credentials in its environment, and shares no memory with another child's codecs.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Lock
from types import TracebackType
from typing import Any, NoReturn, Self

import app
from app import metrics
from app.errors import PixelProcessDied, PixToolsError, StepFailed, StepTimedOut
from app.imaging.recipe import Limits, Monitor, OnProgress, Rendered, Stage, Target

MAX_THREADS = 4  # per image; each takes address space
RENDERS_PER_CHILD = 100  # then a child is replaced: native code leaks and fragments memory
INHERITED = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")  # the only environment variables of a child
LISTEN_SECONDS = 1.0  # between two checks whether a render is still wanted
MAX_ANSWER = 1024 * 1024  # bytes


class Sandbox:
    """A fixed number of child processes, started when they are first needed."""

    def __init__(
        self,
        processes: int,
        memory_bytes: int | None = None,
        sharing: int | None = None,
        denoiser: Mapping[str, Any] | None = None,
        *,
        reserve: bool = False,
    ) -> None:
        """Set up without starting a child.

        Args:
            processes: number of renders at the same time; further ones wait.
            memory_bytes: limit of each child's address space, on Linux. An idle child takes 205 MB with one thread per
                image, and 255 MB with four; a photograph of 50 megapixels took 620 MB, and encoding it as AVIF 1.6 GB.
            sharing: number of such processes that share the cores of the machine; default: those of this sandbox.
            denoiser: arguments of `app.ml.denoise.configure`, which each child calls when it starts.
            reserve: whether to start the last child as soon as all others are busy, instead of when it is needed.
        """
        self._reserve = reserve
        self._arguments = (_threads(sharing or processes), memory_bytes or 0, json.dumps(denoiser))
        self._lock = Lock()
        self._children: set[_Child] = set()
        self._closed = False
        # One entry for each render that may run: an idle child, or None where one has yet to be started. Last in,
        # first out keeps the number of started ones low.
        self._places: LifoQueue[_Child | None] = LifoQueue()
        for _ in range(processes):
            self._places.put(None)

    def render(
        self,
        source: Path,
        stages: Sequence[Stage],
        targets: Sequence[Target],
        limits: Limits,
        timeout: float,
        monitor: Monitor | None = None,
    ) -> list[Rendered | None]:
        """Run `pipeline.render` in a child.

        Args:
            timeout: seconds for the render itself, without the wait for a free child.
            monitor: called at least every second, so that it can end a render that is no longer wanted.

        Raises:
            StepTimedOut: the child was killed because it took too long.
            PixelProcessDied: the child crashed, was killed or ran out of memory.
            PixToolsError: raised by `pipeline.render`.
        """
        monitor = monitor or Monitor()
        with self._child() as child:
            answer = child.ask((source, list(stages), list(targets), limits), timeout, monitor.on_progress)
        if "error" in answer:
            _raise(answer)
        monitor.used.update(answer["used"])
        monitor.reports.update({int(stage): report for stage, report in answer["reports"].items()})
        return [rendered and Rendered.from_json(rendered) for rendered in answer["rendered"]]

    def warm(self) -> None:
        """Start one child before it is needed, since a network takes seconds to load."""
        with self._child():
            pass

    def close(self) -> None:
        """End all children, including busy ones, whose renders raise `PixelProcessDied`."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()  # only kill: a render that waits for the child still uses the socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _child(self) -> Iterator["_Child"]:
        """Lend a live child; a child in an unknown state after a failure is not used again."""
        child = self._places.get()
        kept = None
        try:
            if self._reserve and self._places.qsize() == 1:
                self._prepare()
            child = self._living(child)
            yield child
            kept = child if child.renders < RENDERS_PER_CHILD else None
        finally:
            if child and not kept:
                self._end(child)
            self._places.put(kept)

    def _prepare(self) -> None:
        with suppress(Empty):
            idle = self._places.get_nowait()
            try:
                idle = self._living(idle)
            finally:
                self._places.put(idle)

    def _living(self, child: "_Child | None") -> "_Child":
        if child and not child.is_alive():
            self._end(child)
            child = None
        with self._lock:
            if self._closed:
                raise PixelProcessDied("The server is shutting down.")
            child = child or _Child(*self._arguments)
            self._children.add(child)
        return child

    def _end(self, child: "_Child") -> None:
        child.kill()
        child.disconnect()
        with self._lock:
            self._children.discard(child)


class _Child:
    """A child process and the socket to it."""

    def __init__(self, threads: int, memory_bytes: int, denoiser: str) -> None:
        self._connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "app.imaging.child", theirs.fileno(), threads, memory_bytes, denoiser]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - nothing of this comes from outside
                list(map(str, command)),
                env=_environment(threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C does not reach it
            )
        self.renders = 0

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: tuple[Any, ...], timeout: float, on_progress: OnProgress) -> dict[str, Any]:
        self.renders += 1
        deadline = time.monotonic() + timeout
        with _noticing_death():
            self._connection.send(job)
        while (left := deadline - time.monotonic()) > 0:
            message = self._receive(min(left, LISTEN_SECONDS))
            if "progress" not in message:
                return message
            on_progress(message["progress"])
        raise StepTimedOut(f"The operation took longer than {timeout:g} seconds.")

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next message of the child; if none comes in time, a message without progress."""
        with _noticing_death():
            if not self._connection.poll(seconds):
                return {"progress": None}
            message: dict[str, Any] = json.loads(self._connection.recv_bytes(MAX_ANSWER))
        if "loaded" in message:
            metrics.MODEL_LOAD_SECONDS.observe(message["loaded"])
        return message

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def disconnect(self) -> None:
        self._connection.close()


@contextmanager
def _noticing_death() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, ValueError) as error:
        raise PixelProcessDied from error


def _threads(processes: int) -> int:
    return min(max(1, (os.cpu_count() or 1) // processes), MAX_THREADS)


def _environment(threads: int) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    root = Path(app.__file__).parent.parent
    return {**inherited, "PYTHONPATH": str(root), **library_variables(threads)}


def library_variables(threads: int) -> dict[str, str]:
    """The environment variables for the libraries of a child, which read them when it starts.

    Args:
        threads: number of threads per image.
    """
    return {
        # glibc and OpenBLAS reserve address space for each of their threads, which the memory limit would count. A
        # second arena of glibc grows by 64 MB at a time, whenever a thread happens to ask: no prediction would hold
        "MALLOC_ARENA_MAX": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # without a fixed number, libvips 8.18 ends a thread that was idle for 15 seconds. Work that it hands to that
        # thread in the same moment is lost, and the render waits for it without end
        "VIPS_MAX_THREADS": str(worker_threads(threads)),
    }


def worker_threads(threads: int) -> int:
    """The number of threads that libvips has in a child.

    Too few would wait for each other: all threads of an image may wait for a second image that one of them decodes, and
    two more write the file. The tests of all operations pass with 4 for one thread per image, and with 8 for four.

    Args:
        threads: number of threads per image.
    """
    return 2 * threads + 4


def _raise(answer: dict[str, Any]) -> NoReturn:
    kind = _error_classes(PixToolsError).get(answer.pop("error"), StepFailed)
    error = kind.__new__(kind)
    PixToolsError.__init__(error, **answer)  # subclasses may have an initializer of their own
    raise error


def _error_classes(kind: type[PixToolsError]) -> dict[str, type[PixToolsError]]:
    classes = {kind.__name__: kind}
    for subclass in kind.__subclasses__():
        classes |= _error_classes(subclass)
    return classes
