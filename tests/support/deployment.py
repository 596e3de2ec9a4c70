"""PixTools as users run it: real processes in either mode on free ports, and a client for their API."""

import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Self
from uuid import uuid4

import httpx

from .fixtures import ClusterServers
from .preloaded import Process, run, start
from .schema import migrated_database
from .server import HeldPorts

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT = 60.0  # seconds
JOB_TIMEOUT = 120.0  # seconds
OPEN = ("pending", "processing")
NOT_INHERITED = ("PIXTOOLS_", "COLUMNS")  # pytest-xdist gives its workers a width of the terminal
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without certificates, which httpx would load for each client
WORKERS = {
    "default_queue": ("-P", "prefork", "-c", "2"),
    "ml_inference_queue": ("-P", "prefork", "-c", "1"),
    "webhook_queue": ("-P", "threads", "-c", "16"),
    "fetch_queue": ("-P", "threads", "-c", "16"),
}
SMALL = "small_queue"  # that of the spare process, which the worker of the default queue starts


def free_port() -> int:
    """A port that only a server takes: none that the system gives to a client, or to a listener of another test."""
    held = HeldPorts(1)
    held.release()
    return held.numbers[0]


@dataclass
class Deployment:
    """The processes of one service, with the same settings."""

    mode: str
    folder: Path
    environment: dict[str, str]
    commands: list[list[str]]
    port: int = field(default_factory=free_port)
    processes: list[Process] = field(default_factory=list)
    #: additional environment variables of single processes, by the last word of their commands
    of_command: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Start every process and wait until work is accepted."""
        self.processes = [self._spawn(command) for command in self.commands]
        self.await_ready()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start it, and stop it at the end of the block."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def await_ready(self) -> None:
        """Wait until work is accepted; fails with the end of the log if that takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            died = [process.args for process in self.processes if process.poll() is not None]
            if died or time.monotonic() > deadline:
                raise RuntimeError(f"not ready; died: {died}\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def _spawn(self, command: list[str]) -> Process:
        # as leader of its own process group, so that kill() reaches its children too
        return start(command, self.variables() | self.of_command.get(command[-1], {}), self.log)

    def restart(self, number: int) -> Process:
        """Start a command again after its process has ended."""
        return self._spawn(self.commands[number])

    def variables(self) -> dict[str, str]:
        """The environment of all processes."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        return {**own, "PIXTOOLS_PORT": str(self.port), **self.environment}

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5, verify=PLAIN).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """Send SIGKILL to all processes at once, like a power failure."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGTERM to all processes, and after a while SIGKILL to those that are left."""
        self._signal(signal.SIGTERM, timeout=15)
        self.kill()

    def _signal(self, number: signal.Signals, timeout: float = 10) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, number)
        for process in self.processes:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                continue

    @contextmanager
    def client(self, key: str | None = None) -> Iterator["ApiClient"]:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        with httpx.Client(base_url=self.url, timeout=60, verify=PLAIN, headers=headers) as http:
            yield ApiClient(http)

    def command(self, *arguments: str) -> str:
        """The output of a `pixtools` command with the settings of this deployment; it must succeed."""
        ran = run(["app", *arguments], self.variables())
        assert ran.returncode == 0, ran.stderr[-4000:]
        return ran.stdout.strip()

    def new_key(self, tenant: str = "default", *scopes: str) -> str:
        """A new API key of a tenant, which is created if necessary."""
        if tenant not in {line.split()[0] for line in self.command("tenants", "list").splitlines()}:
            self.command("tenants", "create", tenant)
        return self.command("keys", "create", "--tenant", tenant, *(f"--scope={scope}" for scope in scopes))


@dataclass(frozen=True)
class ApiClient:
    """The requests that most tests need."""

    http: httpx.Client

    def process(
        self,
        image: bytes,
        operations: Any,
        *,
        filename: str = "photo.jpg",
        headers: dict[str, str] | None = None,
        **data: str,
    ) -> httpx.Response:
        """Send POST /process; `operations` is encoded as JSON unless it is a string."""
        tree = operations if isinstance(operations, str) else json.dumps(operations)
        files = {"file": (filename, image)}
        return self.http.post("/process", data={"operations": tree, **data}, files=files, headers=headers)

    def accepted(self, image: bytes, operations: Any, **options: Any) -> dict[str, Any]:
        """Upload an image, which must be accepted; returns the job."""
        response = self.process(image, operations, **options)
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.http.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job

    def ended(self, job_id: str, timeout: float = JOB_TIMEOUT) -> dict[str, Any]:
        """Wait for the end of a job; returns the job."""
        deadline = time.monotonic() + timeout
        while (job := self.job(job_id))["status"] in OPEN:
            assert time.monotonic() < deadline, f"the job has not ended: {job}"
            time.sleep(0.05)
        return job

    def await_all(self) -> None:
        """Wait for the end of the newest jobs, for a test that those of tests before would disturb."""
        for job in self.http.get("/jobs", params={"limit": 100}).json()["data"]:
            self.ended(job["id"])

    def run(self, image: bytes, operations: Any, **options: Any) -> dict[str, Any]:
        """Upload an image and wait for the end of its job; returns the job."""
        return self.ended(self.accepted(image, operations, **options)["id"])

    def download(self, result: dict[str, Any]) -> httpx.Response:
        return httpx.get(result["url"], timeout=30, verify=PLAIN)

    def total_jobs(self) -> int:
        """The number of jobs, counted over all pages of the list."""
        count, cursor = 0, None
        while True:
            page = self.http.get("/jobs", params={"limit": 100, **({"cursor": cursor} if cursor else {})}).json()
            count += len(page["data"])
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return count


def bare(folder: Path, **environment: str) -> dict[str, str]:
    """An environment of only these variables, in which data is in the folder."""
    own = {"PATH": "/usr/bin:/bin", "PIXTOOLS_DATA_DIR": str(folder / "data"), "PIXTOOLS_PORT": str(free_port())}
    return {**own, **environment}


def run_bare(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m` to its end, with only these environment variables and with its data in the folder."""
    return run(command, bare(folder, **environment))


def embedded(folder: Path, **settings: str) -> Deployment:
    """An embedded deployment: one process with its own data folder."""
    environment = {"PIXTOOLS_DATA_DIR": str(folder / "data"), **settings}
    return Deployment("embedded", folder, environment, [["app", "serve"]])


def cluster(
    folder: Path, servers: ClusterServers, queues: Sequence[str] = (*WORKERS, SMALL), **settings: str
) -> Deployment:
    """API and worker processes on real servers, with their own database, virtual host and bucket.

    Tests name the queues whose workers they need, since each start takes seconds of CPU time.
    """
    name = f"pixtools-{uuid4().hex[:12]}"
    servers.object_store.create_bucket(name)
    environment = {
        "PIXTOOLS_DATA_DIR": str(folder / "data"),
        "PIXTOOLS_DATABASE_URL": migrated_database(servers.postgresql, name),
        "PIXTOOLS_BROKER_URL": servers.rabbitmq.new_vhost(),
        "PIXTOOLS_RESULT_BACKEND": servers.redis.url,
        "PIXTOOLS_REDIS_URL": servers.redis.url,
        "PIXTOOLS_STORAGE_URL": f"s3://{name}",
        "PIXTOOLS_S3_ENDPOINT": servers.object_store.endpoint,
        "PIXTOOLS_S3_ACCESS_KEY": servers.object_store.access_key,
        "PIXTOOLS_S3_SECRET_KEY": servers.object_store.secret_key,
        "PIXTOOLS_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PIXTOOLS_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PIXTOOLS_SECRET_KEY": token_hex(32),
        **settings,
    }
    return Deployment("cluster", folder, environment, [["app", "api"], *_workers(queues, name)])


def _workers(queues: Sequence[str], name: str) -> Iterator[list[str]]:
    for queue, options in WORKERS.items():
        if queue in queues:
            spare = ["--spare"] if queue == "default_queue" and SMALL in queues else []
            worker = ["celery", "-A", "app.tasks.celery_app", "worker", "-Q", queue, *options, *spare]
            yield [*worker, "--without-mingle", "--without-gossip", "-n", f"{name}-{queue}@%h"]
