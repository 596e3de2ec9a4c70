"""Runs the rows of the fault matrix, and checks the outcome of every job."""

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import redis
from kombu import Connection
from kombu.transport.pyamqp import Transport

from app.operations import Queue
from tests.support.deployment import Deployment, cluster
from tests.support.fixtures import ClusterServers
from tests.support.proxy import TcpProxy
from tests.support.receiver import Receiver, receiving

from .load import Submitted, digests, job, submit_all

SETTINGS = {
    "PIXTOOLS_STEP_LEASE_SECONDS": "5",
    "PIXTOOLS_RECONCILE_SECONDS": "1",
    "PIXTOOLS_REDISPATCH_SECONDS": "10",
    "PIXTOOLS_STEP_MAX_ATTEMPTS": "20",
    "PIXTOOLS_IDEMPOTENCY_WAIT_SECONDS": "5",
    "PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": "3",
    "PIXTOOLS_WEBHOOK_RETRY_SECONDS": "1,2,4,8,16",
}
QUEUES = ("default_queue", "webhook_queue")
OPEN = {"pending", "processing"}
RESTART_AFTER = 1.0  # seconds, like a container supervisor
END_WITHIN = 600.0  # seconds after the fault; jobs on a busy machine are slow, but not lost
NOT_PURGED = (*Transport.channel_errors, *Transport.connection_errors)
UNSENT = "SELECT count(*) FROM outbox WHERE available_at < now() - interval '5 seconds' AND attempts = 0"
STOLEN = "SELECT count(*) FROM step_attempts WHERE outcome = 'lost'"
EXPECTED: dict[int, dict[str, str]] = {}  # digests without faults, by image


@dataclass
class Stage:
    """Everything that a fault can act on."""

    servers: ClusterServers
    deployment: Deployment
    proxies: dict[str, TcpProxy]


@dataclass(frozen=True)
class Fault:
    """A row of the matrix: a fault that happens while jobs are submitted."""

    name: str
    #: runs in parallel to the clients, and returns when everything works again
    act: Callable[[Stage], None] = lambda _: None
    environment: dict[str, str] = field(default_factory=dict)
    #: prefix of the commands whose processes have the fault; empty: all
    only: str = ""
    #: SQL query that counts the effects of the fault, if the database shows them
    trace: str = ""

    def every(self, calls: int) -> "Fault":
        """The same fault, but processes are killed at each of so many calls."""
        return replace(self, environment={**self.environment, "CHAOS_EVERY": str(calls)})


@dataclass
class Row:
    """The outcome of a fault."""

    name: str
    accepted: int = 0
    ended: int = 0
    doubled_jobs: int = 0
    wrong: int = 0
    doubled_webhooks: int = 0
    lost_webhooks: int = 0
    left_in_outbox: int = 0
    recovery: float = 0.0
    kills: int = 0
    #: whether the fault really happened; if not, the row proves nothing
    struck: bool = True

    @property
    def holds(self) -> bool:
        bad = self.doubled_jobs + self.wrong + self.doubled_webhooks + self.lost_webhooks + self.left_in_outbox
        return self.struck and self.accepted == self.ended and not bad

    def __str__(self) -> str:
        doubled = (self.doubled_jobs, self.wrong, self.doubled_webhooks)
        figures = (self.accepted, self.ended, *doubled, self.lost_webhooks)
        kills = f"{self.kills}" if self.kills else ""
        return f"| {self.name} | {kills} | {' | '.join(map(str, figures))} | {self.recovery:.1f} |"


COLUMNS = (
    "Fault",
    "Kills",
    "Accepted",
    "Ended",
    "Doubled jobs",
    "Wrong or doubled results",
    "Doubled webhooks",
    "Lost webhooks",
    "Seconds to recover",
)
HEADING = f"| {' | '.join(COLUMNS)} |\n|---{'|---:' * (len(COLUMNS) - 1)}|"


def at(point: str, only: str, every: int = 15) -> dict[str, Any]:
    """Arguments of a fault that repeatedly kills processes at a point of the code."""
    environment = {"CHAOS_POINT": point, "CHAOS_EVERY": str(every)}
    return {"environment": environment, "only": only}


def away(server: str, seconds: float, *, kill: bool = False, wipe: bool = False) -> Callable[[Stage], None]:
    """A fault that stops or kills a server, and starts it again later."""

    def act(stage: Stage) -> None:
        time.sleep(2)
        target = getattr(stage.servers, server)
        if server == "rabbitmq":
            target.sync_queues()
        (target.kill if kill else target.stop)()
        time.sleep(seconds)
        (target.wipe if wipe else target.start)()  # `wipe` starts it too

    return act


def flush_redis(stage: Stage) -> None:
    for _ in range(8):
        time.sleep(0.7)
        redis.Redis.from_url(stage.servers.redis.url).flushall()


def through(proxy: str, method: str, seconds: float, *args: float) -> Callable[[Stage], None]:
    """A fault of the network to a server: calls a method of its proxy, and heals it later."""

    def act(stage: Stage) -> None:
        time.sleep(2)
        getattr(stage.proxies[proxy], method)(*args)
        time.sleep(seconds)
        stage.proxies[proxy].heal()

    return act


class _Refusing(BaseHTTPRequestHandler):
    def _refuse(self) -> None:
        self.send_response(503)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _refuse  # noqa: N815 - as the base class names them

    def log_message(self, *_: object) -> None:
        pass


def answers_503(stage: Stage) -> None:
    time.sleep(2)
    proxy = stage.proxies["object_store"]
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy.redirect("127.0.0.1", server.server_port)
        time.sleep(8)
        proxy.redirect(None)
        server.shutdown()


def lose_messages(stage: Stage) -> None:
    """Purge queues. This is no realistic fault: it shows that the checks would notice lost messages."""
    deadline, url = time.monotonic() + 60, stage.deployment.environment["PIXTOOLS_BROKER_URL"]
    while time.monotonic() < deadline:
        with _frozen_workers(stage.deployment):  # otherwise messages hardly wait in a queue
            if any(_purged(url, queue) for _ in range(20) for queue in (Queue.DEFAULT, Queue.SMALL)):
                return


@contextmanager
def _frozen_workers(deployment: Deployment) -> Iterator[None]:
    workers = [process for process in deployment.processes if "celery" in process.args]
    for process in workers:
        os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in workers:
            os.killpg(process.pid, signal.SIGCONT)


def _purged(url: str, queue: Queue) -> int:
    """The number of messages that were removed from a queue."""
    time.sleep(0.1)
    # before its worker has started, the queue does not exist
    with suppress(*NOT_PURGED), Connection(url) as connection, connection.channel() as channel:
        return int(channel.queue_purge(queue.value))
    return 0


WORKER, API = "celery", "app"
FAULTS = [
    Fault("none"),
    Fault("worker: kill -9 before the pixel work", **at("app.services.execution.sandbox:_Child.ask:before", WORKER)),
    Fault(
        "worker: kill -9 during the pixel work", **at("app.services.execution.sandbox:_Child._receive:before", WORKER)
    ),
    Fault("worker: kill -9 after the pixel work", **at("app.services.execution.sandbox:_Child.ask:after", WORKER)),
    Fault(
        "worker: kill -9 between the upload of the output and its row",
        **at("app.services.storage.object_store:ObstorePeer.upload_processed:after", WORKER),
    ),
    Fault(
        "worker: kill -9 between the row and the acknowledgement",
        **at("app.services.execution.executor:Executor._succeed:after", WORKER),
    ),
    Fault(
        "API: kill -9 after the object is stored",
        **at("app.services.storage.object_store:ObstorePeer._upload:after", API),
    ),
    Fault("API: kill -9 after the commit", **at("app.services.intake.submission:Submissions._store:after", API)),
    Fault("API: kill -9 after a message is published", **at("app.services.outbox:publish:after", API, every=2)),
    Fault(
        "dispatcher: kill -9 between the claim and the message",
        **at("app.services.scheduling.dispatcher:Dispatcher._claim:after", API),
    ),
    Fault(
        "dispatcher: kill -9 between the message and its row", **at("app.services.scheduling.due:settle:before", API)
    ),
    Fault("API: kill -9 after the answer", **at("app.services.intake.submission:Submissions._store:soon", API)),
    Fault(
        "webhook sender: kill -9 before the request", **at("app.services.webhooks.egress:Egress.post:before", WORKER)
    ),
    Fault("webhook sender: kill -9 after the answer", **at("app.services.webhooks.egress:Egress.post:after", WORKER)),
    Fault(
        "webhook sender: kill -9 between the row and its commit",
        **at("app.services.webhooks.deliveries:finish:after", WORKER),
    ),
    Fault(
        "webhook sender: kill -9 between the row and the ack",
        **at("app.services.webhook:WebhookSender.attempt:after", WORKER),
    ),
    Fault("RabbitMQ: stopped for 20 s", away("rabbitmq", 20)),
    Fault("RabbitMQ: kill -9", away("rabbitmq", 1, kill=True)),
    Fault("Redis: FLUSHALL, eight times", flush_redis),
    Fault("Redis: stopped for 8 s", away("redis", 8)),
    Fault("Redis: restarted empty", away("redis", 1, kill=True, wipe=True)),
    Fault("PostgreSQL: kill -9", away("postgresql", 2, kill=True)),
    Fault("S3: refuses connections for 8 s", through("object_store", "cut", 8)),
    Fault("S3: answers 503 for 8 s", answers_503),
    Fault("S3: 0.5 s slower for 10 s", through("object_store", "latency", 10, 0.5)),
    Fault("network between workers and broker cut for 12 s, heartbeat 4 s", through("rabbitmq", "blackhole", 12)),
    Fault("every message delivered twice", environment={"CHAOS_PATCH": "duplicate"}),
    Fault("two workers on one step", environment={"CHAOS_PATCH": "steal"}, trace=STOLEN),
    Fault("no chord is ever counted", environment={"CHAOS_PATCH": "uncounted"}),
]
CONTROL = Fault(
    "control: messages purged, reconciler off",
    lose_messages,
    {"PIXTOOLS_RECONCILE_SECONDS": "100000", "CHAOS_POINT": ""},
)


def run(
    fault: Fault,
    servers: ClusterServers,
    folder: Path,
    jobs: int,
    *,
    kills: int = 8,
    spare: bool = True,
    end_within: float = END_WITHIN,
) -> Row:
    """Run a row of the matrix with a number of jobs and at most `kills` kills, with or without a spare process."""
    row = Row(fault.name)
    with ExitStack() as stack:
        stage = stack.enter_context(_staged(fault, servers, folder, kills, spare=spare))
        receiver = stack.enter_context(receiving())
        stack.enter_context(supervised(stage.deployment))
        healed: list[datetime] = []
        actor = threading.Thread(target=lambda: (fault.act(stage), healed.append(datetime.now(UTC))))
        actor.start()
        submitted = submit_all(stage.deployment.url, jobs, receiver.url)
        actor.join()
        row.accepted = len({entry.id for entry in submitted})
        found = ended(stage.deployment.url, submitted, end_within)
        row.ended = len(found)
        _await_webhooks(receiver, row.ended, end_within)
        row.kills = kill_count(folder)
        row.struck = _has_struck(fault, row, stage.deployment)
        _check(row, submitted, found, receiver)
        row.wrong += sum(_has_changed(stage.deployment.url, ended) for ended in found.values())
        row.doubled_jobs = counted(stage.deployment, "SELECT count(*) FROM jobs") - row.accepted
        row.left_in_outbox = counted(stage.deployment, UNSENT)
        ends = [datetime.fromisoformat(entry["finished_at"]) for entry in found.values()]
        row.recovery = max(0.0, (max(ends) - healed[0]).total_seconds()) if ends else float("inf")
    return row


@contextmanager
def _staged(fault: Fault, servers: ClusterServers, folder: Path, kills: int, *, spare: bool) -> Iterator[Stage]:
    with ExitStack() as stack:
        addresses = {
            "rabbitmq": urlsplit(servers.rabbitmq.url),
            "object_store": urlsplit(servers.object_store.endpoint),
        }
        proxies = {
            name: stack.enter_context(TcpProxy(str(url.hostname), int(url.port or 0)))
            for name, url in addresses.items()
        }
        queues = [*QUEUES, *(["small_queue"] if spare else [])]
        deployment = cluster(folder, servers, queues, **SETTINGS, CHAOS_COUNT=str(folder / "count"))
        deployment.environment |= {**fault.environment, "CHAOS_KILLS": str(kills)}
        for variable, name in (("PIXTOOLS_BROKER_URL", "rabbitmq"), ("PIXTOOLS_S3_ENDPOINT", "object_store")):
            there = f":{addresses[name].port}"
            deployment.environment[variable] = deployment.environment[variable].replace(there, f":{proxies[name].port}")
        deployment.commands = [_command(fault, command) for command in deployment.commands]
        stack.callback(deployment.kill)
        deployment.start()
        yield Stage(servers, deployment, proxies)


def _command(fault: Fault, command: list[str]) -> list[str]:
    if fault.only and not command[0].startswith(fault.only):
        return ["tests.chaos.unarmed", *command]
    return ["tests.chaos.run", *command]


@contextmanager
def supervised(deployment: Deployment) -> Iterator[None]:
    """Restart processes that die within the block."""
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.1):
            for number, process in enumerate(deployment.processes):
                if process.poll() is not None and not stopping.wait(RESTART_AFTER):
                    deployment.processes[number] = deployment.restart(number)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def ended(url: str, submitted: list[Submitted], seconds: float) -> dict[str, dict[str, Any]]:
    """Wait for the end of all jobs, at most for these seconds; returns those that have ended, by id."""
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    while len(found) < len({entry.id for entry in submitted}):
        over = time.monotonic() > deadline
        for entry in submitted:
            if entry.id in found:
                continue
            seen = job(url, entry.id)
            if seen and seen["status"] not in OPEN:
                found[entry.id] = seen
            elif not over:
                break  # later jobs have hardly ended before it, and each request costs the API work
        if over:
            break
        time.sleep(0.5)
    return found


def _await_webhooks(receiver: Receiver, count: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while len({request.event["data"]["id"] for request in receiver.requests}) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)  # for surplus webhooks


def _check(row: Row, submitted: list[Submitted], found: dict[str, dict[str, Any]], receiver: Receiver) -> None:
    shown = defaultdict(set)
    for request in receiver.requests:
        shown[request.event["data"]["id"]].add((request.headers["webhook-id"], request.event["type"]))
    for entry in submitted:
        if entry.id not in found:
            continue
        ended = found[entry.id]
        expected = EXPECTED.setdefault(entry.image, digests(ended))
        row.wrong += ended["status"] != "completed" or digests(ended) != expected
        row.doubled_webhooks += len(shown[entry.id]) > 1
        row.lost_webhooks += not shown[entry.id]


def _has_changed(url: str, ended: dict[str, Any]) -> bool:
    """Whether a job has changed after its end."""
    now = job(url, ended["id"]) or {}
    return any(now.get(name) != ended[name] for name in ("status", "finished_at", "steps"))


def kill_count(folder: Path) -> int:
    """How many times the fault of `tests.chaos.run` has killed a process."""
    count = folder / "count"
    return int(count.read_text().split()[1]) if count.exists() else 0


def _has_struck(fault: Fault, row: Row, deployment: Deployment) -> bool:
    if fault.trace:
        return counted(deployment, fault.trace) > 0
    return row.kills > 0 if fault.environment.get("CHAOS_POINT") else True


def counted(deployment: Deployment, query: str) -> int:
    """The count that a query returns from the database of a deployment."""
    with _database(deployment) as connection:
        found = connection.execute(query).fetchone()
        return int(found[0]) if found else 0


def _database(deployment: Deployment) -> Any:
    return psycopg.connect(deployment.environment["PIXTOOLS_DATABASE_URL"].replace("+psycopg", ""), autocommit=True)


def unique(folder: Path) -> Path:
    path = folder / uuid4().hex[:8]
    path.mkdir()
    return path
