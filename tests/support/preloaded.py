"""Starts Python programs for tests as forks of a process that has already imported what they need.

Imports take most of the CPU time of a PixTools process at its start (`python -X importtime -m app serve`), and the
tests start hundreds of processes. PixTools' own modules read no settings when they are imported, so that each fork runs
with its own. The exception are metrics, which are kept in files if a variable says so. Processes that share metrics are
therefore forks of a second process, which has imported nothing that has metrics. The width of the terminal is read as
well: the help of a command is as wide as without a terminal, whatever COLUMNS says. Benchmarks do not use this: their
processes start as they do for users.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

LIBRARIES = (
    "alembic.command", "anyio._backends._asyncio", "celery.app.control", "celery.backends.base", "celery.bin.worker",
    "celery.concurrency.prefork", "celery.concurrency.thread", "celery.fixups.django", "celery.loaders.app",
    "celery.worker", "celery.worker.autoscale", "celery.worker.components", "celery.worker.consumer",
    "celery.worker.control", "celery.worker.loops", "celery.worker.strategy", "certifi",
    "cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf", "cryptography.x509",
    "fastapi", "fastapi.openapi.utils", "fastapi.responses", "h11", "httpcore", "httptools", "httpx",
    "kombu.transport.memory", "kombu.transport.pyamqp", "markdown_it", "multipart", "obstore", "prometheus_client",
    "psycopg", "publicsuffixlist", "pybreaker", "pydantic.v1", "pydantic_settings", "redis.asyncio", "rich.progress",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite", "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm", "stream_zip", "structlog", "typer", "uuid_utils.compat", "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
WITHOUT_METRICS = (
    "app.absent_redis", "app.logging_config", "app.manual.pages", "app.ml.unet", "app.private",
    "app.routers.tree_schema", "app.services.access.door", "app.services.execution.delivering",
    "app.services.execution.input_cache", "app.services.intake.costs", "app.services.intake.json_request",
    "app.services.monitoring.backlog", "app.services.s3", "app.services.storage.azure", "app.services.storage.gcs",
    "app.services.storage.local", "app.services.upkeep.accounts", "app.services.upkeep.refusals",
    "app.services.upkeep.unused_assets", "app.services.webhooks.endpoints", "app.tasks.memory_broker",
    "app.tasks.spare",
)  # fmt: skip
OWN = (
    "app.commands.root", "app.doctor", "app.server", "app.tasks.fetch", "app.tasks.finalize", "app.tasks.image_ops",
    "app.tasks.maintenance", "app.tasks.ml_ops", "app.tasks.start", "app.tasks.webhooks", "pixtools_client",
)  # fmt: skip
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # read when metrics are imported
ROOT = Path(__file__).parent.parent.parent
READ_AT_START = ("LD_", "MALLOC_", "PYTHON")  # variables that the linker, the C library or the interpreter reads
IGNORED = {"PYTHONUNBUFFERED"}  # exceptions: this one decides when output is written, and not what
POLL = 0.02  # seconds


class Process(Protocol):
    """The methods of `subprocess.Popen` that tests use."""

    pid: int
    args: Any

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Fork:
    """A forked process, with methods of `subprocess.Popen`."""

    def __init__(self, parent: "Preloaded", pid: int, args: Sequence[str]) -> None:
        self.pid = pid
        self.args = args
        self._parent = parent
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        if self._code is None:
            self._code = self._parent.ask({"poll": self.pid})
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process; returns its exit status.

        Raises:
            subprocess.TimeoutExpired: the process still runs after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            time.sleep(POLL)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process that has imported the libraries. It ends when this process does."""

    def __init__(self, libraries: Sequence[str] = LIBRARIES, python: str | Path = sys.executable) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [python, "-m", __name__, str(theirs.fileno()), *libraries],
                cwd=ROOT,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._answers = self._socket.makefile("r")

    def start(
        self,
        args: Sequence[str],
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        *,
        inputs: Path = Path(os.devnull),
        folder: Path | None = None,
    ) -> Fork:
        """Start `python ARGS` as leader of a new session.

        Args:
            args: the arguments; the first one is `-m` or `-c`.
            environment: all environment variables of the process.
            out: file to which standard output is appended.
            err: file to which standard error is appended.
            inputs: file that is standard input.
            folder: working directory; default: that of this process.
        """
        job = {"args": list(args), "environment": dict(environment), "folder": str(folder or Path.cwd())}
        pid: int = self.ask({**job, "in": str(inputs), "out": str(out), "err": str(err)})
        return Fork(self, pid, ["python", *args])

    def run(
        self, args: Sequence[str], environment: Mapping[str, str], timeout: float = 60, **options: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run `python ARGS` to its end; `options` are those of `start`.

        Raises:
            subprocess.TimeoutExpired: the process took longer than `timeout` seconds, and was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            process = self.start(args, environment, out, err, **options)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            return subprocess.CompletedProcess(process.args, code, out.read_text(), err.read_text())

    def ask(self, question: dict[str, Any]) -> Any:
        with self._lock:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            return json.loads(self._answers.readline())

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(10)


_preloaded: dict[tuple[str, ...], Preloaded] = {}  # by what they have imported
_starting = threading.Lock()  # tests run programs from several threads
_is_forking = False


@contextmanager
def forking() -> Iterator[None]:
    """Within this block, `start` and `run` fork."""
    global _is_forking  # noqa: PLW0603
    _is_forking = True
    try:
        yield
    finally:
        _is_forking = False
        while _preloaded:
            _preloaded.popitem()[1].close()


def start(args: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start `python -m ARGS` as leader of a new session, with its output appended to the log."""
    if _is_forking and can_fork(environment):
        return preloaded(args, environment).start(["-m", *args], environment, log, log)
    with log.open("ab") as file:
        command = [sys.executable, "-m", *args]
        return subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file, start_new_session=True)


def run(args: Sequence[str], environment: Mapping[str, str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run `python -m ARGS` to its end.

    Raises:
        subprocess.TimeoutExpired: the process took longer than `timeout` seconds, and was killed.
    """
    if _is_forking and can_fork(environment):
        return preloaded(args, environment).run(["-m", *args], environment, timeout)
    command = [sys.executable, "-m", *args]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=timeout, check=False)


def preloaded(args: Sequence[str], environment: Mapping[str, str]) -> Preloaded:
    """The process of which these arguments are run as a fork; started on first use, within `forking` only."""
    if not _is_forking:
        raise RuntimeError("nothing would end the process")
    shares_metrics = SHARED_METRICS in environment or ("app" in args and "worker" in args)
    modules = (*LIBRARIES, *(WITHOUT_METRICS if shares_metrics else OWN))
    with _starting:
        if modules not in _preloaded:
            _preloaded[modules] = Preloaded(modules)
        return _preloaded[modules]


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a fork can have this environment: variables that are read before Python starts must be the same."""
    return all(
        environment.get(name) == os.environ.get(name)
        for name in {*environment, *os.environ} - IGNORED
        if name.startswith(READ_AT_START)
    )


def _environment() -> dict[str, str]:
    """The variables under which modules are imported."""
    own = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # otherwise importing NumPy starts threads
    own.pop("COLUMNS", None)  # the commands' help is made for the terminal's width
    return own


def main(descriptor: int, libraries: Sequence[str]) -> None:
    """Import the libraries, and fork on request until the other end closes the socket."""
    for library in libraries:
        importlib.import_module(library)
    if "app.main" in sys.modules:
        _build_routes()
    elif "app.metrics" in sys.modules:
        raise RuntimeError("A module has imported the metrics: take it from WITHOUT_METRICS.")
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - a fork would lack these threads
        raise RuntimeError("A module has started a thread when it was imported: take it from LIBRARIES or OWN.")
    if "multiprocessing.heap" in sys.modules:
        raise RuntimeError("A module has made a shared value when it was imported: all forks would share it.")
    gc.collect()
    gc.freeze()  # garbage collection in a fork would copy every page
    with socket.socket(fileno=descriptor) as asking:
        job = _serve(asking)
    if job:  # this is the fork
        _do(job)


def _build_routes() -> None:
    """Build all routes of the API, as the first requests would in each fork, at the cost of half a start."""
    for route in sys.modules["app.main"].app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/nowhere", "headers": []})


def _serve(asking: socket.socket) -> dict[str, Any] | None:
    """Answer requests. Returns the job in each fork, and None in this process at the end."""
    for line in asking.makefile("r"):
        question = json.loads(line)
        if "poll" in question:
            answer = _status(question["poll"])
        elif (answer := os.fork()) == 0:
            return dict(question)
        asking.sendall(json.dumps(answer).encode() + b"\n")
    return None


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _do(job: dict[str, Any]) -> None:
    """Do a job and end as the interpreter does, except that nothing is freed.

    To free what the parent has imported would take longer than most jobs: each object's page would be copied first.
    """
    try:
        _become(job)
        code = 0
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _become(job: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell has started in the background ignores it
    os.chdir(job["folder"])
    sys.path[0] = job["folder"]
    for target, path, flags in (
        (0, job["in"], os.O_RDONLY),
        (1, job["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, job["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        source = os.open(path, flags, 0o644)
        os.dup2(source, target)
        os.close(source)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)  # as they are now
    os.environ.clear()
    os.environ.update(job["environment"])
    how, what, *arguments = job["args"]
    if how == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [how, *arguments]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
