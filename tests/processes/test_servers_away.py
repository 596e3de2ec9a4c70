"""Servers go away under a running cluster; what Redis is there for, and what RabbitMQ gives up."""

import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from kombu import Connection
from uuid_utils.compat import uuid7

from app.operations import DEAD_LETTER_QUEUE
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster
from tests.support.fixtures import ClusterServers
from tests.support.processes import frozen, listed, pixel_processes
from tests.support.waiting import until

pytestmark = pytest.mark.integration

TREE: list[Any] = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]


@pytest.fixture(scope="module")
def running(cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """API, pixel worker and relay; the collector of traces is away all the time."""
    folder = tmp_path_factory.mktemp("cluster")
    deployment = cluster(folder, cluster_servers, ["default_queue"], PIXTOOLS_OTLP_ENDPOINT="http://127.0.0.1:1")
    deployment.commands.append(["app", "relay"])
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.kill()


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
    until(lambda: server.scard(counted) == int(server.get(counted.replace(".ended", ".s"))) == 2)
    assert {key.rpartition(".")[2] for key in server.scan_iter("celery-*")} == {"ended", "s"}
    assert all(0 < server.ttl(key) <= 3600 for key in server.scan_iter("celery-*"))
    assert server.pubsub_channels("celery-task-meta-*") == []


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


def test_a_relay_of_its_own_does_the_work_of_the_apis(running: Deployment) -> None:
    with running.client() as api:
        assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"
    running.processes[-1].send_signal(signal.SIGTERM)
    assert running.processes[-1].wait(10) == 0
