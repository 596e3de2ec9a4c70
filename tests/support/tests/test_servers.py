"""Tests of the private servers and the faulty network on which other tests rely."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import amqp
import httpx
import obstore
import psutil
import psycopg
import pytest
import redis
from obstore.exceptions import PermissionDeniedError
from obstore.store import S3Store
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import server as servers_module
from tests.support.fixtures import ClusterServers
from tests.support.proxy import TcpProxy
from tests.support.server import HOST, Server, ServerFailed
from tests.support.servers import ObjectStoreServer, PostgreSQL, RabbitMQ, Redis

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
QUEUE = "kept"
ONCE = Retry(NoBackoff(), 0)


@pytest.fixture
def servers(cluster_servers: ClusterServers) -> Iterator[ClusterServers]:
    yield cluster_servers
    for server in (
        cluster_servers.rabbitmq,
        cluster_servers.redis,
        cluster_servers.postgresql,
        cluster_servers.object_store,
    ):
        server.resume()
        if not server.alive():
            server.start()


class Client:
    """The operations that the life-cycle test needs: store a value, read it, detect missing answers."""

    def __init__(self, put: Callable[[], object], get: Callable[[], object], errors: tuple[type[Exception], ...]):
        self.put, self.get, self.errors = put, get, errors


def rabbitmq_client(server: RabbitMQ) -> Client:
    def put() -> None:
        with amqp_connection(server) as connection, closing(connection.channel()) as channel:
            channel.confirm_select()
            channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
            channel.basic_publish_confirm(amqp.Message(b"value", delivery_mode=2), routing_key=QUEUE)
        server.sync_queues()

    def get() -> object:
        with amqp_connection(server) as connection, closing(connection.channel()) as channel:
            try:
                message = channel.basic_get(QUEUE)  # not acknowledged, so it returns to the queue
            except amqp.NotFound:
                return None
            return message and message.body

    return Client(put, get, (OSError, amqp.AMQPError))


def amqp_connection(server: RabbitMQ, vhost: str = "/", port: int | None = None) -> Any:
    return amqp.Connection(
        host=f"{HOST}:{port or server.port}",
        userid=server.USER,
        password=server.password,
        virtual_host=vhost,
        connect_timeout=2,
        read_timeout=2,
    )


def redis_client(server: Redis) -> Client:
    client = redis.Redis.from_url(server.url, socket_timeout=3, retry=ONCE)
    return Client(lambda: client.set("key", b"value"), lambda: client.get("key"), (redis.RedisError,))


def postgresql_client(server: PostgreSQL) -> Client:
    def connect() -> psycopg.Connection:
        url = server.url.replace("+psycopg", "")
        return psycopg.connect(url, autocommit=True, connect_timeout=2, tcp_user_timeout=1000)

    def put() -> None:
        with connect() as connection:
            connection.execute("CREATE TABLE kept (value bytea)")
            connection.execute("INSERT INTO kept VALUES (%s)", [b"value"])

    def get() -> object:
        with connect() as connection:
            if connection.execute("SELECT to_regclass('kept')").fetchone() == (None,):
                return None
            row = connection.execute("SELECT value FROM kept").fetchone()
            return row and row[0]

    return Client(put, get, (psycopg.Error,))


def object_store_client(server: ObjectStoreServer) -> Client:
    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.REGION,
        client_options={"allow_http": True, "timeout": "1s"},
        retry_config={"max_retries": 0},
    )

    def get() -> object:
        try:
            return bytes(obstore.get(store, "key").bytes())
        except FileNotFoundError:
            return None

    return Client(lambda: obstore.put(store, "key", b"value"), get, (obstore.exceptions.BaseError,))


def server_and_client(servers: ClusterServers, kind: str) -> tuple[Server, Client]:
    match kind:
        case "rabbitmq":
            return servers.rabbitmq, rabbitmq_client(servers.rabbitmq)
        case "redis":
            return servers.redis, redis_client(servers.redis)
        case "postgresql":
            return servers.postgresql, postgresql_client(servers.postgresql)
        case _:
            return servers.object_store, object_store_client(servers.object_store)


@pytest.mark.parametrize(
    "kind",
    [
        "redis",
        # their four starts each take many seconds
        *(pytest.param(kind, marks=pytest.mark.full) for kind in ("postgresql", "rabbitmq", "object_store")),
    ],
)
def test_life_of_a_server(servers: ClusterServers, kind: str) -> None:
    """Values survive kill and stop, but not wipe; a paused server does not answer; ports stay; no process is left."""
    server, client = server_and_client(servers, kind)
    url = server.url
    client.put()

    server.kill()
    assert not server.alive()
    assert server.processes() == []
    with pytest.raises(client.errors):
        client.get()
    server.start()
    assert client.get() == b"value"

    server.pause()
    assert {process.status() for process in server.processes()} == {psutil.STATUS_STOPPED}
    with pytest.raises(client.errors):
        client.get()
    server.resume()
    eventually(lambda: client.get() == b"value", client.errors)

    server.restart()
    assert client.get() == b"value"

    before = server.processes()
    server.stop()
    assert server.processes() == []
    assert not any(running(process) for process in before)

    server.wipe()
    assert client.get() is None
    assert server.url == url


def test_servers_listen_on_the_loopback_address_only(servers: ClusterServers) -> None:
    for server in (servers.rabbitmq, servers.redis, servers.postgresql, servers.object_store):
        listening = set[str]().union(*map(_listening, server.processes()))
        # Erlang's port mapper also listens on the IPv6 loopback address
        assert listening - {"::1"} == {HOST}, server.name


def _listening(process: psutil.Process) -> set[str]:
    """The addresses that a process listens on; none if it has ended: servers have helpers that come and go."""
    with suppress(psutil.NoSuchProcess):
        connections = process.net_connections("inet")
        return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return set()


@pytest.mark.full  # each call of its tool takes a second; all clusters have virtual hosts made by it
def test_rabbitmq_vhost_and_policy(servers: ClusterServers) -> None:
    server = servers.rabbitmq
    server.create_vhosts("other/one")
    assert server.vhost_url("other/one").endswith("/other%2Fone")
    server.ctl("set_policy", "--vhost", "other/one", "short", "^q", '{"max-length":1}')
    with amqp_connection(server, "other/one") as connection, closing(connection.channel()) as channel:
        channel.queue_declare("q1", durable=True, auto_delete=False)
    listed = server.ctl("list_queues", "--vhost", "other/one", "name", "policy")
    assert listed.split() == ["q1", "short"]
    with pytest.raises(ServerFailed, match="no_such_command"):
        server.ctl("no_such_command")


def test_postgresql_databases_are_apart(servers: ClusterServers) -> None:
    server = servers.postgresql
    urls = [server.create_database(name) for name in ("one", "Two-2")]
    for url in urls:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE same (id int)")
    with server.connect() as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_redis_keeps_an_append_only_file(servers: ClusterServers) -> None:
    with redis.Redis.from_url(servers.redis.url, decode_responses=True) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_object_store_checks_signatures(servers: ClusterServers) -> None:
    server = servers.object_store
    stranger = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key="wrong",
        region=server.REGION,
        client_options={"allow_http": True},
    )
    with pytest.raises(PermissionDeniedError):
        obstore.put(stranger, "key", b"value")
    assert httpx.get(f"{server.endpoint}/{server.bucket}/key", timeout=30).status_code == httpx.codes.FORBIDDEN
    server.create_bucket("another")
    obstore.put(server.store("another"), "key", b"value")
    assert bytes(obstore.get(server.store("another"), "key").bytes()) == b"value"


def test_many_servers_start_at_once(tmp_path: Path) -> None:
    many = [Redis(tmp_path / str(number)) for number in range(12)]
    try:
        with ThreadPoolExecutor(len(many)) as threads:
            list(threads.map(lambda server: server.start(), many))
        assert len({server.port for server in many}) == len(many)
        assert all(redis.Redis.from_url(server.url).ping() for server in many)
    finally:
        for server in many:
            server.kill()


def test_server_moves_on_when_its_port_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as thief:
        taken = thief.getsockname()[1]
        choices = iter([SimpleNamespace(numbers=(taken,), release=lambda: None), servers_module.HeldPorts(1)])
        monkeypatch.setattr(servers_module, "HeldPorts", lambda _count: next(choices))
        with Redis(tmp_path) as server:
            assert server.port != taken


def test_failure_to_start_shows_the_log(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "data" / "appendonlydir" / "appendonly.aof.manifest").write_text("broken\n")
    with pytest.raises(ServerFailed, match=r"(?s)exit code 1.*Invalid AOF manifest"):
        server.start()
    assert server.processes() == []


DYING_TEST = """
import sys, time
from pathlib import Path
from threading import Thread
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, ObjectStoreServer
kinds = {kind.name: kind for kind in (PostgreSQL, RabbitMQ, Redis, ObjectStoreServer)}
servers = [kinds[name](Path(sys.argv[1]) / name) for name in sys.argv[2:]]
threads = [Thread(target=server.start) for server in servers]
for thread in threads: thread.start()
for thread in threads: thread.join()
servers[0].pause()
print(*(process.pid for server in servers for process in server.processes()), flush=True)
time.sleep(60)
"""


QUICK = {"postgresql": {"postgres"}, "redis": {"redis-server"}}
EVERY = {**QUICK, "rabbitmq": {"beam.smp", "epmd"}, "seaweedfs": {"weed"}}


@pytest.mark.parametrize("programs", [QUICK, pytest.param(EVERY, marks=pytest.mark.full)], ids=["quick", "every"])
def test_servers_die_with_the_test_process(tmp_path: Path, programs: dict[str, set[str]]) -> None:
    command = [sys.executable, "-c", DYING_TEST, tmp_path, *programs]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in test.stdout.readline().split()]
        assert set().union(*programs.values()) <= {process.name() for process in processes}
        test.send_signal(signal.SIGKILL)
    eventually(lambda: not any(running(process) for process in processes), ())


@pytest.fixture
def proxy(servers: ClusterServers) -> Iterator[TcpProxy]:
    with TcpProxy(HOST, servers.redis.port) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(proxy: TcpProxy) -> Iterator[redis.Redis]:
    with redis.Redis(host=HOST, port=proxy.port, socket_timeout=10, retry=ONCE) as client:
        yield client


def test_proxy_cuts_and_heals(proxy: TcpProxy, behind_proxy: redis.Redis) -> None:
    assert behind_proxy.ping()
    for _ in range(3):
        proxy.cut()
        with pytest.raises(redis.ConnectionError):  # the open connection
            behind_proxy.ping()
        with pytest.raises(redis.ConnectionError, match="refused"):
            behind_proxy.ping()
        proxy.heal()
        assert behind_proxy.ping()


def test_proxy_swallows(proxy: TcpProxy, behind_proxy: redis.Redis) -> None:
    assert behind_proxy.ping()
    proxy.blackhole()
    open_one = behind_proxy.connection_pool.get_connection()
    open_one.send_command("PING")
    assert not open_one.can_read(timeout=0.5)
    open_one.disconnect()
    new_one = redis.Redis(host=HOST, port=proxy.port, socket_timeout=0.5, retry=ONCE)
    with closing(new_one), pytest.raises(redis.TimeoutError):
        new_one.ping()
    proxy.heal()
    assert behind_proxy.ping()


def test_proxy_delays(proxy: TcpProxy, behind_proxy: redis.Redis) -> None:
    assert behind_proxy.ping()
    proxy.latency(0.1)
    assert 0.2 <= shortest(behind_proxy.ping, 0.4) < 0.4, "once in each direction"
    proxy.latency(0)
    assert shortest(behind_proxy.ping, 0.1) < 0.1


def shortest(call: Callable[[], object], enough: float) -> float:
    """The seconds of the fastest of at most ten calls, since on a busy machine some take long; the last is below
    `enough`."""
    took = []
    while len(took) < 10 and min(took, default=enough) >= enough:
        began = time.monotonic()
        call()
        took.append(time.monotonic() - began)
    return min(took)


def test_proxy_passes_much_data_and_the_end_of_streams() -> None:
    sent = os.urandom(8_000_000)
    with socket.create_server((HOST, 0)) as echo, TcpProxy(*echo.getsockname()) as proxy, ThreadPoolExecutor() as pool:
        echoing = pool.submit(echo_all, echo)
        with socket.create_connection((HOST, proxy.port)) as client:
            pool.submit(lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
            assert read_all(client) == sent
        echoing.result()


def echo_all(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.sendall(read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], bool], passing_errors: tuple[type[Exception], ...]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if holds():
                return
        except passing_errors:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)
