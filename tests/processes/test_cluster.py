"""A cluster whose servers go away and whose processes end; what Redis is there for, and what RabbitMQ gives up.

All tests share one cluster. What they end and do not need again is started for the next test that asks for it.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
import redis
from kombu import Connection
from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from app.database import Database
from app.models import DueTask, Step, StepStatus
from app.operations import DEAD_LETTER_QUEUE, Queue
from app.tasks.celery_app import celery_app
from app.tasks.declaration import Declaration
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster, embedded, free_port
from tests.support.fixtures import ClusterServers
from tests.support.processes import LONG, command, frozen, held, kill_all, listed, pixel_processes
from tests.support.scraping import total
from tests.support.waiting import until

pytestmark = pytest.mark.integration

TREE: list[Any] = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]


API, WORKER, RELAY = range(3)
SETTINGS = {
    "PIXTOOLS_OTLP_ENDPOINT": "http://127.0.0.1:1",  # the collector of traces is away all the time
    "PIXTOOLS_STEP_MAX_ATTEMPTS": "2",
    "PIXTOOLS_DRAIN_SECONDS": "0.5",
}


@pytest.fixture(scope="module")
def started(cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """API, pixel worker and relay."""
    deployment = cluster(tmp_path_factory.mktemp("cluster"), cluster_servers, [], **SETTINGS)
    deployment.commands = [["app", "api"], ["app", "worker", "--concurrency", "2"], ["app", "relay"]]
    deployment.environment["PIXTOOLS_METRICS_PORT"] = str(free_port())  # of the worker
    deployment.of_command = {command: {"PIXTOOLS_METRICS_PORT": ""} for command in ("api", "relay")}
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.kill()


@pytest.fixture
def running(started: Deployment) -> Deployment:
    """The cluster, with all of its processes."""
    for number, process in enumerate(started.processes):
        if process.poll() is not None:
            started.processes[number] = started.restart(number)
    started.await_ready()
    return started


def test_a_collector_that_is_away_costs_nothing(running: Deployment, photo: bytes) -> None:
    with running.client() as client:
        assert client.run(photo, ["flip"])["status"] == "completed"


def test_redis_counts_chords_and_keeps_nothing_else(running: Deployment, cluster_servers: ClusterServers) -> None:
    """Otherwise every job would leave keys, and subscriptions that last as long as the worker."""
    server = redis.Redis.from_url(cluster_servers.redis.url, decode_responses=True)
    server.flushall()
    with running.client() as api:
        assert api.run(make_photo(64, 48), TREE)["status"] == "completed"
    [counted] = until(lambda: list(server.scan_iter("*.ended")))
    until(lambda: server.scard(counted) == int(server.get(counted.replace(".ended", ".s")) or 0) == 2)
    assert {key.rpartition(".")[2] for key in server.scan_iter("celery-*")} == {"ended", "s"}
    assert all(0 < server.ttl(key) <= 3600 for key in server.scan_iter("celery-*"))
    assert server.pubsub_channels("celery-task-meta-*") == []


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", [pytest.param("embedded", marks=pytest.mark.full), "cluster"])
def test_poison_is_given_up_listed_refused_and_redriven(
    tmp_path: Path, mode: str, request: pytest.FixtureRequest
) -> None:
    """Every pixel process that takes the task is killed, as the system does when memory is short."""
    if mode == "cluster":
        _poison(request.getfixturevalue("running"))
        return
    deployment = embedded(tmp_path, **SETTINGS)
    try:
        deployment.start()
        _poison(deployment)
    finally:
        deployment.kill()


def _poison(deployment: Deployment) -> None:
    photo, tree = make_photo(1000, 750), [LONG, "convert_png"]
    with deployment.client() as api:
        job_id = api.accepted(photo, tree)["id"]
        until(lambda: api.job(job_id)["steps"][1]["status"] == "succeeded")  # its process will not be killed

        def given_up() -> Any:
            step = api.job(job_id)["steps"][0]
            if step["status"] == "running":
                kill_all(pixel_processes(deployment))
            return step["status"] == "failed" and step

        assert until(given_up, 240)["error"]["code"] == "poison_input"
        job = api.ended(job_id)
        assert job["status"] == "completed_with_errors"
        assert [result["name"] for result in job["results"]] == ["convert_png"]

        [line] = until(lambda: listed(deployment))
        letter_id = line.split()[0]
        assert job_id in line
        shown = json.loads(command(deployment, "dlq", "show", letter_id).stdout)
        assert (shown["reason"], shown["operations"]) == ("poison_input", ["convert_avif"])

        refused = api.process(photo, tree)
        assert (refused.status_code, refused.json()["code"]) == (422, "known_poison")
        assert api.run(photo, ["convert_webp"])["status"] == "completed"

        assert "runs again" in command(deployment, "dlq", "redrive", letter_id).stdout
        until(lambda: api.job(job_id)["steps"][0]["status"] == "running")
        for each in (job_id, api.accepted(photo, tree)["id"]):
            api.http.post(f"/jobs/{each}/cancel")
        assert command(deployment, "dlq", "list").stdout == ""
        assert command(deployment, "dlq", "purge", "--all").stdout == "1 deleted\n"


def test_rabbitmq_gives_up_what_no_worker_can_take(running: Deployment) -> None:
    """A message of a task that no worker knows is rejected, and written down."""
    with running.client() as api:
        api.run(make_photo(64, 64), ["convert_png"])  # then there is a worker, and its queues
    with Connection(running.environment["PIXTOOLS_BROKER_URL"]) as connection:
        producer = connection.Producer()
        headers = {"task": "pixtools.of_tomorrow", "id": "message-of-tomorrow", "lang": "py"}
        producer.publish(
            [[str(uuid7()), "0"], {}, {}],
            exchange="pixtools",
            routing_key="default_queue",
            headers=headers,
            serializer="json",
            delivery_mode=2,
        )
        [line] = until(lambda: listed(running))
        assert line.startswith("message-of-tomorrow")
        assert "rejected" in line
        with connection.channel() as channel:
            assert channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).message_count == 0


def test_a_broker_that_has_lost_its_data_gets_all_queues_again(
    running: Deployment, cluster_servers: ClusterServers
) -> None:
    """Not only those that a worker consumes: an autoscaler asks for the others."""
    url = running.environment["PIXTOOLS_BROKER_URL"]
    with running.client() as api:
        api.run(make_photo(64, 64), ["convert_png"])  # then the worker has started
    cluster_servers.rabbitmq.empty_vhost(url)
    with Connection(url) as connection:
        until(lambda: missing_queues(connection) == [])
    with running.client() as api:
        assert api.run(make_photo(64, 64), ["convert_webp"])["status"] == "completed"
    assert "Failed to bind queue" not in running.log.read_text(), "Celery's delays need the queues"


def test_a_queue_with_other_arguments_is_left_as_it_is_and_the_others_are_declared(
    cluster_servers: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    with Connection(cluster_servers.rabbitmq.new_vhost()) as connection:
        with connection.channel() as channel:
            channel.queue_declare(Queue.SMALL, auto_delete=True)
        consumer = SimpleNamespace(app=celery_app, connection=connection)
        Declaration(consumer).start(consumer)
        assert missing_queues(connection) == []
    [told] = [record for record in caplog.records if record.message == "queue_not_declared"]
    assert vars(told)["queue"] == Queue.SMALL


def missing_queues(connection: Connection) -> list[str]:
    missing = []
    for queue in (*Queue, DEAD_LETTER_QUEUE):
        try:
            with connection.channel() as channel:
                channel.queue_declare(queue, passive=True)
        except connection.channel_errors:
            missing.append(str(queue))
    return missing


def test_jobs_end_while_redis_is_away(running: Deployment, cluster_servers: ClusterServers) -> None:
    """Redis only counts chords, and marks keys; without it the database knows as well."""
    cluster_servers.redis.stop()
    try:
        with running.client() as api:
            headers = {"Idempotency-Key": uuid4().hex}
            waiting = [api.accepted(make_photo(64, 48), TREE, headers=headers)["id"]]
            waiting += [api.accepted(make_photo(64, 48), TREE)["id"] for _ in range(5)]
            assert {api.ended(job_id)["status"] for job_id in waiting} == {"completed"}
    finally:
        cluster_servers.redis.start()


def test_a_restart_of_the_database_costs_seconds(running: Deployment, cluster_servers: ClusterServers) -> None:
    """Tasks wait for it where they are: nothing is left to leases of a minute and looks after ten."""
    with running.client() as api:
        with frozen(pixel_processes(running)):
            waiting = [api.accepted(make_photo(64, 48), ["convert_webp", "convert_png"])["id"] for _ in range(8)]
            until(lambda: any(step["status"] == "running" for job_id in waiting for step in api.job(job_id)["steps"]))
            cluster_servers.postgresql.kill()
        time.sleep(1)  # in which results come that cannot be recorded
        cluster_servers.postgresql.start()
        until(lambda: api.http.get("/health/ready").is_success)
        assert {api.ended(job_id, 45)["status"] for job_id in waiting} == {"completed"}


def test_the_processes_of_a_worker_count_together_whatever_dies(running: Deployment) -> None:
    tree = [{"op": "grayscale", "then": ["convert_gif"]}]  # of these jobs alone; not small
    photo, url = make_photo(600, 450), f"http://127.0.0.1:{running.environment['PIXTOOLS_METRICS_PORT']}"
    with running.client() as api:
        for number in (2, 4):
            for job in [api.accepted(photo, tree) for _ in range(2)]:
                assert api.ended(job["id"])["status"] == "completed"
            until(partial(counts, url, number))
            kill_all(pool_of(running.processes[WORKER].pid))
    assert total(running.url, "pixtools_steps_total") == 0, "the API counts what it does itself"
    (folder,) = (running.folder / "data" / "spool").glob("metrics-*")
    assert len(list(folder.glob("slot-*.lock"))) <= 5


def counts(url: str, number: int) -> bool:
    """Whether the worker has counted so many of these jobs and of their steps."""
    steps = total(url, "pixtools_steps_total", op="convert_gif")
    return steps == total(url, "pixtools_job_seconds_count", op="grayscale") == number


def pool_of(worker: int) -> list[int]:
    """The processes of its pool."""
    pool = []
    for child in psutil.Process(worker).children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if not {"app.imaging.child", "small_queue"} & {*child.cmdline()}:
                pool.append(child.pid)
    return pool


def test_a_cancel_ends_the_pixel_process(running: Deployment) -> None:
    with running.client() as api:
        job_id = api.accepted(make_photo(1000, 750), [LONG])["id"]
        with held(running, api, job_id):
            before = pixel_processes(running)
            api.http.post(f"/jobs/{job_id}/cancel")
            until(lambda: before - pixel_processes(running))


# -- processes that end ------------------------------------------------------------------------------------------------


def test_a_relay_of_its_own_goes_on_when_the_api_that_chooses_is_killed(running: Deployment) -> None:
    large = [{"op": "convert_webp", "effort": 6}]  # by the estimate, so that it waits for the worker
    with closing(Database(running.environment["PIXTOOLS_DATABASE_URL"])) as database, running.client() as api:
        workers = running.processes[WORKER].pid
        os.killpg(workers, signal.SIGSTOP)  # so that there is work left, whatever the machine does
        try:
            ids = [UUID(api.accepted(make_photo(200, 150), large)["id"]) for _ in range(12)]
            with database.session(read_only=True) as session:
                assert session.scalars(select(func.count()).select_from(DueTask)).one() >= 4
            running.processes[API].kill()
        finally:
            os.killpg(workers, signal.SIGCONT)

        def left() -> int:
            with database.session(read_only=True) as session:
                unfinished = select(func.count()).where(Step.job_id.in_(ids), Step.status != StepStatus.SUCCEEDED)
                return session.scalars(unfinished).one()

        until(lambda: left() == 0)
    running.processes[RELAY].send_signal(signal.SIGTERM)
    assert running.processes[RELAY].wait(60) == 0


def test_a_worker_that_is_stopped_hands_its_task_to_the_next(running: Deployment) -> None:
    with running.client() as api:
        job_id = api.accepted(make_photo(1000, 750), [LONG])["id"]
        worker = running.processes[WORKER]
        with held(running, api, job_id):
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        step = api.job(job_id)["steps"][0]
        assert (step["status"], step["attempts"]) == ("pending", 0)
        running.processes[WORKER] = running.restart(WORKER)
        step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
        assert step["attempts"] == 1
        api.http.post(f"/jobs/{job_id}/cancel")


def spare_of(worker: int) -> int | None:
    """The id of the spare process in a worker's group."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if b"spare-" in _read(path)]
    groups = {int(folder.name): _read(folder / "stat").rpartition(b")")[2].split()[2:3] for folder in found}
    return next((pid for pid, group in groups.items() if group == [str(worker).encode()]), None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_spare_process_is_started_again_and_ends_with_its_worker(running: Deployment) -> None:
    worker = running.processes[WORKER].pid
    with running.client() as api:

        def takes_work() -> bool:
            queues = api.http.get("/health").json()["queues"]
            return bool(queues and queues[Queue.SMALL]["workers"] == 1)

        until(takes_work)
        first = spare_of(worker)
        assert first
        os.kill(first, signal.SIGKILL)
        until(lambda: spare_of(worker) not in {None, first})
        until(takes_work)
    running.processes[WORKER].kill()
    until(lambda: spare_of(worker) is None)
