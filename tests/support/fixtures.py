"""Fixtures with real servers, one of each kind for the whole run, started on first use.

A test that stops or pauses a server brings it back (`start`, `resume`, `restart`) before it ends. A test that leaves
data behind uses its own virtual host, database or bucket.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import pytest

from .azurite import Azurite
from .server import MissingProgram, Server
from .servers import ObjectStoreServer, PostgreSQL, RabbitMQ, Redis

S = TypeVar("S", bound=Server)


@dataclass(frozen=True)
class ClusterServers:
    """The servers that a cluster deployment of PixTools needs."""

    rabbitmq: RabbitMQ
    redis: Redis
    postgresql: PostgreSQL
    object_store: ObjectStoreServer


class ServerPool:
    """Starts each kind of server once, and again if a test left it stopped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: dict[type[Server], Server] = {}
        self._lock = threading.Lock()

    def get(self, kind: type[S]) -> S:
        """The running server of a kind. Threads may start different kinds at the same time."""
        with self._lock:
            server = cast("S", self._servers.setdefault(kind, kind(self._directory / kind.name)))
        if not server.alive():
            server.start()
        return server

    def cluster(self) -> ClusterServers:
        """One running server of each kind."""
        return ClusterServers(
            rabbitmq=self.get(RabbitMQ),
            redis=self.get(Redis),
            postgresql=self.get(PostgreSQL),
            object_store=self.get(ObjectStoreServer),
        )

    def stop(self) -> None:
        """Stop all servers, in parallel."""
        _in_parallel([server.stop for server in self._servers.values()])


@pytest.fixture(scope="session")
def server_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    pool = ServerPool(tmp_path_factory.mktemp("servers"))
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def rabbitmq(server_pool: ServerPool) -> RabbitMQ:
    return _get(server_pool, RabbitMQ)


@pytest.fixture(scope="session")
def redis_server(server_pool: ServerPool) -> Redis:
    return _get(server_pool, Redis)


@pytest.fixture
def patient_redis(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Redis:
    """A Redis for which this process waits longer, so that it does not do without Redis on a busy machine."""
    for limit in ("access.rates.REDIS_TIMEOUT", "idempotency.REDIS_TIMEOUT", "webhooks.breakers.REDIS_SECONDS"):
        monkeypatch.setattr(f"app.services.{limit}", 30)
    return redis_server


@pytest.fixture(scope="session")
def postgresql(server_pool: ServerPool) -> PostgreSQL:
    return _get(server_pool, PostgreSQL)


@pytest.fixture(scope="session")
def object_store_server(server_pool: ServerPool) -> ObjectStoreServer:
    return _get(server_pool, ObjectStoreServer)


@pytest.fixture(scope="session")
def azurite(server_pool: ServerPool) -> Azurite:
    return _get(server_pool, Azurite)


@pytest.fixture(scope="session")
def cluster_servers(server_pool: ServerPool) -> ClusterServers:
    kinds: tuple[type[Server], ...] = (RabbitMQ, Redis, PostgreSQL, ObjectStoreServer)
    _in_parallel([partial(_get, server_pool, kind) for kind in kinds])
    return server_pool.cluster()


def _get(pool: ServerPool, kind: type[S]) -> S:
    try:
        return pool.get(kind)
    except MissingProgram as missing:
        pytest.fail(str(missing), pytrace=False)


def _in_parallel(calls: list[Callable[[], object]]) -> None:
    """Run all calls to their end, then raise the first error, if any."""
    with ThreadPoolExecutor(max(len(calls), 1)) as threads:
        results = [threads.submit(call) for call in calls]
    for result in results:
        result.result()
