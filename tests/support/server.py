"""A private server program for tests, as a child process on free ports of the loopback address.

It keeps its ports and data over `kill()`, `stop()` and `restart()`; `wipe()` brings it back empty. No server outlives
the test process (see `watchdog`).
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil  # type: ignore[import-untyped, unused-ignore]

from . import watchdog

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; RabbitMQ starts slowly on a busy machine
POLL = 0.05  # seconds between two checks of a starting server
PORTS = range(12_000, 22_000)  # even with GRPC_OFFSET below the ephemeral ports of the kernel
GRPC_OFFSET = 10_000  # SeaweedFS listens on port and port + 10000
START_ATTEMPTS = 5
LOG_TAIL = 4_000  # characters
PORT_TAKEN = re.compile(r"address already in use|eaddrinuse|failed to listen|could not bind", re.IGNORECASE)
INSTALL_HINT = "run scripts/install-test-servers"
OWNER = uuid.uuid4().hex
_SCRATCH = Path(tempfile.gettempdir()) / f"pixtools-test-{OWNER}"
_lock = threading.Lock()
_ports_given: set[int] = set()
_watchers: list[subprocess.Popen[bytes]] = []  # at most one


class MissingProgram(RuntimeError):
    """A server's program is not installed."""


class ServerFailed(RuntimeError):
    """A server did not start, or a command to it failed."""


class PortTaken(ServerFailed):
    """Another process took the port between its choice and the server's start."""


class HeldPorts:
    """Free ports, each held by a bound socket until `release()`."""

    def __init__(self, count: int) -> None:
        self._sockets = ExitStack()
        with _lock:
            self.numbers = tuple(self._hold_one() for _ in range(count))

    def release(self) -> None:
        """Free the ports, for the server to take them at once."""
        self._sockets.close()

    def _hold_one(self) -> int:
        # Another process of `pytest -n` never takes a port of this one, not even while its server is stopped
        number, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
        ports = PORTS[int(number.removeprefix("gw")) :: int(count)]
        for port in iter(lambda: secrets.choice(ports), None):
            if port not in _ports_given and self._hold(port) and self._hold(port + GRPC_OFFSET):
                _ports_given.add(port)
                return port
        raise AssertionError("unreachable")

    def _hold(self, port: int) -> bool:
        held = self._sockets.enter_context(socket.socket())
        try:
            held.bind((HOST, port))
        except OSError:
            return False
        return True


class Server(ABC):
    """A server program as a child process; subclasses define how to start it and how to check that it is ready."""

    name: ClassVar[str]
    ports_needed: ClassVar[int] = 1
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_timeout: ClassVar[float] = 20.0  # seconds until a server that did not stop is killed
    start_timeout: ClassVar[float] = START_TIMEOUT
    not_ready: ClassVar[tuple[type[Exception], ...]]  # exceptions of `_check` while the server starts

    def __init__(self, directory: Path) -> None:
        self.home = directory
        self.user: str | None = None  # user to run as; None: the user of the tests
        self.log = directory / f"{self.name}.log"
        self._mark = f"{OWNER}/{uuid.uuid4().hex}"
        self._ports: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._leaders: dict[int, float] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients, with credentials."""

    @property
    def port(self) -> int:
        """The port for clients; chosen at the first start, and kept."""
        if not self._ports:
            raise RuntimeError(f"{self.name} was never started")
        return self._ports[0]

    @property
    def data(self) -> Path:
        """The directory that `wipe()` empties."""
        return self.home / "data"

    def start(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            ServerFailed: it did not start; with the end of its log.
        """
        if self.alive():
            raise RuntimeError(f"{self.name} runs already")
        _watch_this_process()
        if self._ports:
            self._launch()
            return self
        for _ in range(START_ATTEMPTS - 1):
            with suppress(PortTaken):
                self._launch_on_new_ports()
                return self
        self._launch_on_new_ports()
        return self

    def stop(self) -> None:
        """Stop the server gracefully, and kill it if it does not end in time. The data stays."""
        if self.alive() and self._process is not None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_timeout)
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the server and all its children. The data stays."""
        watchdog.kill(self._mark, self._leaders)
        if self._process is not None:
            self._process.wait()
        self._leaders.clear()
        for path in self._left_behind():
            path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop the server if it runs, and start it again with the same ports and data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Stop the server, remove all data and start it again on the same ports."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def pause(self) -> None:
        """Send SIGSTOP to all its processes: connections stay open, but get no answer."""
        stopped: set[psutil.Process] = set()
        # Children of PostgreSQL and Erlang lead their own process groups, so that a signal to one group misses them.
        while fresh := set(self.processes()) - stopped:
            for process in fresh:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped |= fresh
        while any(_runs(process) for process in stopped):  # each stops when it has its turn
            time.sleep(0.01)

    def resume(self) -> None:
        """Send SIGCONT to all its processes."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def alive(self) -> bool:
        """Whether the server's main process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All running processes of this server."""
        return watchdog.find(self._mark, self._leaders)

    def __enter__(self) -> Self:
        return self if self.alive() else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Write the files that the server needs; called before every start."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _check(self) -> None:
        """Use the server once; raises one of `not_ready` while it is starting."""

    def _settings(self) -> dict[str, str]:
        """Environment variables of this kind of server."""
        return {}

    def _left_behind(self) -> Iterable[Path]:
        """Files outside its directory that remain when the server is killed."""
        return ()

    def _environment(self) -> dict[str, str]:
        # Not the environment of the tests: variables such as PGHOST or RABBITMQ_NODENAME would change the server.
        return {
            "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            watchdog.MARK: self._mark,
        } | self._settings()

    def _launch_on_new_ports(self) -> None:
        held = HeldPorts(self.ports_needed)
        self._ports = held.numbers
        try:
            self._launch(held)
        except BaseException as error:
            self._ports = ()
            if isinstance(error, PortTaken):
                shutil.rmtree(self.data, ignore_errors=True)
            raise
        finally:
            held.release()

    def _launch(self, held: HeldPorts | None = None) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._prepare()
        with self.log.open("ab") as log:
            log_start = log.tell()
            if held is not None:
                held.release()
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=self._environment(),
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        try:
            self._leaders[self._process.pid] = watchdog.report(_SCRATCH, self._process.pid, self._left_behind())
            self._wait_until_ready(self._process, log_start)
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            if process.poll() is not None:
                raise self._failure(f"ended at once with exit code {process.returncode}", log_start)
            try:
                return self._check()
            except self.not_ready as error:
                if time.monotonic() > deadline:
                    why = f"did not serve within {self.start_timeout:.0f} s ({error!r})"
                    raise self._failure(why, log_start) from error
            time.sleep(POLL)

    def _failure(self, what: str, log_start: int) -> ServerFailed:
        with self.log.open("rb") as log:
            log.seek(log_start)
            text = log.read().decode(errors="replace")
        kind = PortTaken if PORT_TAKEN.search(text) else ServerFailed
        return kind(f"{self.name} {what}; the end of {self.log}:\n{text[-LOG_TAIL:]}")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE})
    except psutil.NoSuchProcess:
        return False


def _watch_this_process() -> None:
    with _lock:
        if not _watchers:
            _SCRATCH.mkdir()
            _SCRATCH.chmod(0o711)  # servers that run as other users must reach their own folders below
            _watchers.append(watchdog.start(OWNER, _SCRATCH))


def program(name: str) -> Path:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if found is None:
        raise MissingProgram(f"{name} is not installed: {INSTALL_HINT}")
    return Path(found)
