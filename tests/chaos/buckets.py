"""Processes all objects of a bucket by one template into another bucket, while processes are killed, and the broker and
Redis are restarted. The outputs are compared with those of a run without faults.

Either every process is killed in turn, evenly spread over the work. Or one process of each kind is killed while it
works, and its work is suspended, so that a few objects are enough.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import obstore
import psutil
from obstore.store import S3Store

from app.operations import Queue
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster
from tests.support.fixtures import ClusterServers
from tests.support.processes import pixel_processes, resume, suspend
from tests.support.servers import ObjectStoreServer
from tests.support.waiting import until

from .load import CLIENTS, HTTP, accepted
from .matrix import SETTINGS, counted, kill_count, supervised

TEMPLATE = {
    "operations": [{"op": "resize", "width": {"param": "width"}, "then": [{"op": "convert_webp", "as": "small"}]}],
    "params": {"properties": {"width": {"type": "integer", "minimum": 16, "maximum": 64, "default": 48}}},
}
KEY = "{input.dir}/{input.stem}/{name}.{ext}"
FOLDERS = 20
PATIENCE = 120.0  # seconds for a killed process to come back
END_WITHIN = 1800.0  # seconds; jobs on a busy machine are slow, but not lost
ENDED = "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND tags->>'pass' = '{}'"
WHOLE = "SELECT count(*) FROM jobs WHERE status = 'completed' AND tags->>'pass' = '{}'"
ATTEMPTS = "SELECT count(*) FROM step_attempts JOIN jobs ON jobs.id = job_id WHERE tags->>'pass' = '{}'"
RUNNING = "SELECT count(*) FROM job_steps WHERE status = 'running' AND queue = '{}'"
TASKS = f"SELECT count(DISTINCT (job_id, task)) {ATTEMPTS.removeprefix('SELECT count(*) ')}"


@dataclass
class Report:
    """The outcome of both runs."""

    objects: int
    #: name of each strike, and the number of unfinished jobs at that time
    strikes: list[tuple[str, int]] = field(default_factory=list)
    jobs: int = 0
    completed: int = 0
    missing: int = 0
    changed: int = 0
    #: objects under unexpected keys
    stray: int = 0
    #: number of different contents
    distinct: int = 0
    tasks: int = 0
    attempts: int = 0
    seconds_undisturbed: float = 0.0
    seconds: float = 0.0

    @property
    def redone(self) -> float:
        """Repeated attempts, as a share of the tasks."""
        return self.attempts / self.tasks - 1

    @property
    def holds(self) -> bool:
        """Whether each object has exactly one output, under its key and with the same content as without faults."""
        bad = self.missing + self.changed + self.stray
        return self.jobs == self.completed == self.distinct == self.objects and not bad

    def __str__(self) -> str:
        return (
            f"{self.objects} objects, {len(self.strikes)} strikes: {self.completed} of {self.jobs} jobs completed, "
            f"{self.missing} outputs missing, {self.changed} changed, {self.stray} stray; {self.attempts} attempts at "
            f"{self.tasks} tasks, {self.redone:.2%} redone; {self.seconds:.0f} s, {self.seconds_undisturbed:.0f} s "
            f"undisturbed\n" + "\n".join(f"  {left:5} unfinished at: {name}" for name, left in self.strikes)
        )


def run(
    servers: ClusterServers, folder: Path, objects: int, *, in_turn: bool = True, lease_seconds: int = 15
) -> Report:
    """Process the objects twice: without faults, and with them.

    Args:
        servers: servers of the deployment, two of which are restarted.
        folder: a new folder for the deployment.
        objects: number of objects.
        in_turn: whether all processes are killed, evenly spread over the work; else one of each kind, in its work.
        lease_seconds: length of a lease; the work of a killed process begins again after it.
    """
    report, store = Report(objects), servers.object_store
    source, calm, storm = (_bucket(servers, role) for role in ("in", "calm", "storm"))
    keys = _fill(store.store(source), objects)
    deployment = cluster(
        folder,
        servers,
        ("default_queue", *(("small_queue",) if in_turn else ()), "fetch_queue"),
        **SETTINGS | {"PIXTOOLS_STEP_LEASE_SECONDS": str(lease_seconds), "PIXTOOLS_STORE_ENDPOINTS": store.endpoint},
    )
    deployment.commands.append(["app", "relay"])
    if not in_turn:
        _arm_api(deployment, objects)
    try:
        deployment.start()
        for name, bucket in (("in", source), ("calm", calm), ("storm", storm)):
            _put(deployment, f"stores/{name}", _connection(store, bucket))
        _put(deployment, "templates/catalogue", TEMPLATE)
        started = time.monotonic()
        _send(deployment, keys, "calm")
        _await_end(deployment, "calm", objects)
        report.seconds_undisturbed = time.monotonic() - started
        with supervised(deployment):
            started = time.monotonic()
            send = partial(_send, deployment, keys, "storm")
            (_strike_in_turn if in_turn else _strike_in_work)(deployment, servers, report, send)
            _await_end(deployment, "storm", objects)
            report.seconds = time.monotonic() - started
        _compare(report, keys, *(dict(_contents(store.store(name))) for name in (calm, storm)))
        report.jobs = counted(deployment, "SELECT count(*) FROM jobs") - objects
        report.completed = counted(deployment, WHOLE.format("storm"))
        report.attempts = counted(deployment, ATTEMPTS.format("storm"))
        report.tasks = counted(deployment, TASKS.format("storm"))
    finally:
        deployment.kill()
    return report


def _bucket(servers: ClusterServers, role: str) -> str:
    name = f"{role}-{uuid4().hex[:12]}"
    servers.object_store.create_bucket(name)
    return name


def _fill(bucket: S3Store, objects: int) -> list[str]:
    """Fill a bucket with images that all differ; returns their keys."""

    def put(number: int) -> str:
        key = f"{number % FOLDERS:02}/{number:04}.jpg"
        obstore.put(bucket, key, make_photo(64, 48, seed=number))
        return key

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(put, range(objects)))


def _connection(server: ObjectStoreServer, bucket: str) -> dict[str, object]:
    credentials = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return {"url": f"s3://{bucket}", "endpoint": server.endpoint, "credentials": credentials}


def _put(deployment: Deployment, path: str, body: object) -> None:
    HTTP.put(f"{deployment.url}/{path}", json=body, timeout=30).raise_for_status()


def _send(deployment: Deployment, keys: list[str], name: str) -> None:
    """Submit a job for each key. With `fail`, a job whose output has already been written by another one fails."""

    def one(key: str) -> None:
        request = {
            "input": {"store": "in", "key": key},
            "template": "catalogue",
            "params": {"width": 32},
            "tags": {"pass": name},
            "output": {"store": name, "key": KEY, "if_exists": "fail"},
        }
        accepted(deployment.url, json=request)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, keys))


def _await_end(deployment: Deployment, name: str, objects: int) -> None:
    deadline = time.monotonic() + END_WITHIN
    while counted(deployment, ENDED.format(name)) < objects:
        assert time.monotonic() < deadline, "the jobs have not ended"
        time.sleep(0.2)


@dataclass(frozen=True)
class Strike:
    """A process to kill, or a server to restart."""

    name: str
    act: Callable[[], None]


def _strikes(deployment: Deployment, servers: ClusterServers) -> list[Strike]:
    """The strikes: every running process, in the case of a container's first process with all others of the container;
    and the servers."""
    found = []
    for number, command in enumerate(deployment.commands):
        name = command[command.index("-Q") + 1] if "-Q" in command else command[-1]
        main = psutil.Process(deployment.processes[number].pid)
        for path in _paths(main):
            which = f", process {'.'.join(map(str, path))}" if path else ""
            found.append(Strike(f"kill -9 {name}{which}", partial(_kill, deployment, number, path)))
    middle = len(found) // 2
    found.insert(middle, Strike("restart RabbitMQ", servers.rabbitmq.restart))
    found.insert(middle // 2, Strike("restart Redis", servers.redis.restart))
    return found


def _paths(process: psutil.Process, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The paths of a process and all its descendants: each step is an index among siblings, by age."""
    yield path
    for number, child in enumerate(_children(process)):
        yield from _paths(child, (*path, number))


def _children(process: psutil.Process) -> list[psutil.Process]:
    return sorted(process.children(), key=psutil.Process.create_time)


def _kill(deployment: Deployment, number: int, path: tuple[int, ...]) -> None:
    """Kill the process at a path. If an earlier strike has just killed it, wait until it is back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            process = psutil.Process(deployment.processes[number].pid)
            for step in path:
                process = _children(process)[step]
            if process.status() != psutil.STATUS_ZOMBIE:
                break
        except (psutil.NoSuchProcess, IndexError):
            pass
        assert time.monotonic() < deadline, f"process {path} of {deployment.commands[number]} does not come back"
        time.sleep(0.05)
    if path:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _strike_in_turn(deployment: Deployment, servers: ClusterServers, report: Report, send: Callable[[], None]) -> None:
    """Run the strikes one after the other, evenly spread over the work."""
    strikes = _strikes(deployment, servers)
    sending = threading.Thread(target=send)
    sending.start()
    for number, strike in enumerate(strikes):
        due = report.objects * number // len(strikes)
        while counted(deployment, ENDED.format("storm")) < due:
            time.sleep(0.05)
        _strike(strike, deployment, report)
    sending.join()


def _strike(strike: Strike, deployment: Deployment, report: Report) -> None:
    report.strikes.append((strike.name, report.objects - counted(deployment, ENDED.format("storm"))))
    strike.act()


API, PIXELS, FETCHER, RELAY = range(4)


def _arm_api(deployment: Deployment, objects: int) -> None:
    """Let the API die in the middle of the second run: after the commit of a job and before the answer."""
    deployment.commands[API] = ["tests.chaos.run", *deployment.commands[API]]
    deployment.environment |= {
        "CHAOS_POINT": "app.services.intake.submission:Submissions._write_new:after",
        "CHAOS_EVERY": str(objects + objects // 2),
        "CHAOS_KILLS": "1",
        "CHAOS_COUNT": str(deployment.folder / "count"),
    }


def _strike_in_work(deployment: Deployment, servers: ClusterServers, report: Report, send: Callable[[], None]) -> None:
    """Strike a process of each kind while it works: its work does not end before that."""
    suspended: set[int] = set()

    def is_at_work(queue: Queue) -> bool:
        new = pixel_processes(deployment) - suspended
        suspend(new)
        suspended.update(new)
        return counted(deployment, RUNNING.format(queue.value)) > 0

    def strike(name: str, act: Callable[[], None]) -> None:
        _strike(Strike(name, act), deployment, report)

    fetcher = deployment.processes[FETCHER].pid
    try:
        os.killpg(fetcher, signal.SIGSTOP)
        strike("kill -9 API after a commit", send)
        assert kill_count(deployment.folder) == 1, "the API was not killed"
        servers.object_store.pause()
        os.killpg(fetcher, signal.SIGCONT)
        until(lambda: is_at_work(Queue.FETCH))
        strike("kill -9 fetch_queue", partial(_kill, deployment, FETCHER, ()))
        servers.object_store.resume()
        until(lambda: is_at_work(Queue.DEFAULT))
        strike("restart Redis", servers.redis.restart)
        strike("restart RabbitMQ", servers.rabbitmq.restart)
        strike("kill -9 relay", partial(_kill, deployment, RELAY, ()))
        strike("kill -9 default_queue", partial(_kill, deployment, PIXELS, ()))
    finally:
        servers.object_store.resume()
        resume(suspended)


def _contents(bucket: S3Store) -> Iterator[tuple[str, bytes]]:
    for batch in obstore.list(bucket):
        for item in batch:
            yield item["path"], bytes(obstore.get(bucket, item["path"]).bytes())


def _compare(report: Report, keys: list[str], calm: dict[str, bytes], storm: dict[str, bytes]) -> None:
    expected = {f"{key.removesuffix('.jpg')}/small.webp" for key in keys}
    assert calm.keys() == expected, "the undisturbed run is not as it should be"
    report.missing = len(expected - storm.keys())
    report.stray = len(storm.keys() - expected)
    report.changed = sum(calm[key] != storm[key] for key in expected & storm.keys())
    report.distinct = len(set(storm.values()))
