"""Redis and the database go away under a running cluster, and what Redis is there for."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tests.conftest import make_photo
from tests.support.deployment import cluster
from tests.support.fixtures import ClusterServers
from tests.support.waiting import until


@pytest.mark.integration
def test_jobs_end_while_redis_is_away(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Redis only counts chords, and marks keys; without it the database knows as well."""
    deployment = cluster(tmp_path, cluster_servers)
    tree = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]
    try:
        deployment.start()
        cluster_servers.redis.stop()
        with deployment.client() as api:
            headers = {"Idempotency-Key": uuid4().hex}
            waiting = [api.accepted(make_photo(64, 48), tree, headers=headers)["id"]]
            waiting += [api.accepted(make_photo(64, 48), tree)["id"] for _ in range(5)]
            assert {api.ended(job_id)["status"] for job_id in waiting} == {"completed"}
    finally:
        deployment.kill()
        cluster_servers.redis.start()


@pytest.mark.integration
def test_redis_counts_chords_and_keeps_nothing_else(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Otherwise every job would leave keys, and subscriptions that last as long as the worker."""
    deployment = cluster(tmp_path, cluster_servers)
    server = redis.Redis.from_url(cluster_servers.redis.url, decode_responses=True)
    server.flushall()
    tree = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]
    try:
        deployment.start()
        with deployment.client() as api:
            assert api.run(make_photo(64, 48), tree)["status"] == "completed"
        [counted] = until(lambda: list(server.scan_iter("*.ended")))
        until(lambda: server.scard(counted) == int(server.get(counted.replace(".ended", ".s"))) == 2)
        assert {key.rpartition(".")[2] for key in server.scan_iter("celery-*")} == {"ended", "s"}
        assert all(0 < server.ttl(key) <= 3600 for key in server.scan_iter("celery-*"))
        assert server.pubsub_channels("celery-task-meta-*") == []
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_restart_of_the_database_costs_seconds(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Tasks wait for it where they are: nothing is left to leases of a minute and looks after ten."""
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            waiting = [api.accepted(make_photo(640, 480), ["convert_webp", "convert_png"])["id"] for _ in range(30)]
            cluster_servers.postgresql.kill()
            time.sleep(2)
            cluster_servers.postgresql.start()
            until(lambda: api.http.get("/health/ready").is_success)
            assert {api.ended(job_id, 45)["status"] for job_id in waiting} == {"completed"}
    finally:
        deployment.kill()
