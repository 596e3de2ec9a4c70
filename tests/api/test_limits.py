"""What clients send and hold is bounded: memory stays flat, and the process answers meanwhile, in both modes."""

import json
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import in_one_mode
from tests.support.deployment import Deployment, cluster, embedded
from tests.support.waiting import until

MEGABYTE = 1_000_000
PATIENCE = 15  # seconds that an answer may take on a machine that does much else
FLAT = 20 * MEGABYTE  # bytes that memory may grow by
WAITS = 20
SETTINGS = {
    "PIXTOOLS_HEAD_SECONDS": "2",
    "PIXTOOLS_SILENCE_SECONDS": "2",
    "PIXTOOLS_KEEP_ALIVE_SECONDS": "1",
    "PIXTOOLS_MAX_WAITS": str(WAITS),
    "PIXTOOLS_WEBHOOK_PORTS": "80,443,8080",
}
FORM = "multipart/form-data; boundary=b"
#: the process that bounds all of this is the same in both modes
ONE_MODE = in_one_mode("server")


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The API of each mode, with little patience."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        deployment = embedded(folder, **SETTINGS)
    else:
        deployment = cluster(folder, request.getfixturevalue("cluster_servers"), [], **SETTINGS)
    with deployment.running():
        yield deployment


def connect(server: Deployment, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=15)
    connection.sendall(sent)
    return connection


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def read(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def problem(answer: bytes) -> dict[str, Any]:
    """The last answer of a connection, which has to be a well-formed problem."""
    start = answer.rindex(b"HTTP/1.1 ")
    shown, body = answer[start:].split(b"\r\n\r\n", 1)
    lines = shown.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body)
    document: dict[str, Any] = json.loads(body)
    assert str(document["status"]) in lines[0]
    return document


def memory(server: Deployment) -> int:
    size: int = psutil.Process(server.processes[0].pid).memory_info().rss
    return size


def lives(server: Deployment) -> float:
    """How long the process takes to say that it lives."""
    began = time.monotonic()
    assert httpx.get(f"{server.url}/health/live", timeout=2 * PATIENCE).json() == {"status": "ok"}
    return time.monotonic() - began


@contextmanager
def stays_flat(server: Deployment) -> Iterator[Callable[[], None]]:
    """Memory is the same at each look and behind it, and the process answers."""
    lives(server)
    before = memory(server)

    def look() -> None:
        assert lives(server) < PATIENCE
        assert memory(server) - before < FLAT

    yield look
    look()


def pour(connection: socket.socket, piece: bytes, size: int, look: Callable[[], None]) -> None:
    """Send something without end, until the server has had enough."""
    with suppress(ConnectionError, TimeoutError):
        for number in range(size // len(piece)):
            connection.sendall(piece)
            if number % 100 == 0:
                look()


@ONE_MODE
@pytest.mark.parametrize("trailer", [b"a:\r\n" * 8000, b"a: " + b"b" * 30_000 + b"\r\n", b"a" * 32_000])
def test_trailers_without_end_are_refused(server: Deployment, trailer: bytes) -> None:
    start = head("POST /webhooks", "Transfer-Encoding: chunked", "Content-Type: application/json")
    with stays_flat(server) as look, connect(server, start + b"2\r\n{}\r\n0\r\n") as connection:
        pour(connection, trailer, 40 * MEGABYTE, look)
        answer = read(connection)
    # the answer to the body comes first, if the body was complete
    assert not answer or answer.startswith(b"HTTP/1.1 4")


@ONE_MODE
def test_a_trailer_that_is_no_larger_than_a_head_is_passed_over(server: Deployment) -> None:
    start = head("POST /jobs", "Transfer-Encoding: chunked", "Connection: close")
    with connect(server, start + b"2\r\n{}\r\n0\r\nX: y\r\n\r\n") as connection:
        assert problem(read(connection))["status"] == 405


@ONE_MODE
def test_a_body_of_json_is_as_large_as_its_limit(server: Deployment) -> None:
    with stays_flat(server) as look:
        for headers in (["Content-Length: 300000000"], ["Transfer-Encoding: chunked"]):
            start = head("POST /webhooks", "Content-Type: application/json", *headers)
            with connect(server, start) as connection:
                is_chunked = "chunked" in headers[0]
                piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if is_chunked else b" " * 65536
                pour(connection, piece, 4 * FLAT, look)
    answer = httpx.post(f"{server.url}/webhooks", content=b" " * 262_145, timeout=30)
    assert answer.status_code == 413
    shown = answer.json()
    assert (shown["code"], shown["limit"], shown["value"]) == ("body_too_large", 262_144, 262_145)
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/webhooks", content=b" " * 262_144, headers=headers, timeout=30)
    assert answer.json()["code"] == "invalid_json", "it was read"


def drip(server: Deployment) -> float:
    """Send a head that never ends, in pieces; returns the seconds after which the server gives up."""
    with connect(server) as connection:
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 15:
                connection.sendall(b"\r\n")
                time.sleep(0.1)
        return time.monotonic() - began


@ONE_MODE
def test_what_does_not_come_is_not_awaited_for_ever(server: Deployment) -> None:
    """A head, the rest of one or of a body, and a reader."""
    kinds = [("POST /webhooks", "application/json"), ("POST /process", FORM)]
    bodies = [head(line, f"Content-Type: {kind}", "Content-Length: 1000") + b"--b\r\n" for line, kind in kinds]
    began = time.monotonic()
    with ExitStack() as stack:
        dripping = stack.enter_context(ThreadPoolExecutor(1)).submit(drip, server)
        silent, unread, *stopped = (
            stack.enter_context(connect(server, sent))
            for sent in (
                b"",
                head("GET /health/live", "Content-Length: 1000"),
                *(b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
                *(body for body in bodies for _ in range(20)),
            )
        )
        idle = stack.enter_context(reader_that_stops(server))
        assert not read(silent)  # which has a time-out
        assert time.monotonic() - began > 1.5
        assert read(unread).startswith(b"HTTP/1.1 200 ")
        for connection in stopped:
            shown = problem(read(connection))
            assert (shown["status"], shown["code"], shown["limit"]) == (408, "request_timeout", 2)
        until_closed(server, idle)
        assert dripping.result() < 14


@contextmanager
def reader_that_stops(server: Deployment) -> Iterator[socket.socket]:
    """A client that reads nothing of many answers."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        for _ in range(15):
            connection.sendall(head("GET /docs/swagger-ui-bundle.js"))
        yield connection


@ONE_MODE
@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 40_000, 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"X:\r\n" * 200 + b"\r\n", 431, "head_too_large"),
        (head("GET /" + "a" * 9000), 414, "target_too_long"),
        (b"what is this?\r\n\r\n", 400, "invalid_request"),
    ],
    ids=["bytes", "number", "target", "no HTTP"],
)
def test_a_head_that_is_too_much_is_refused(server: Deployment, sent: bytes, status: int, code: str) -> None:
    with connect(server, sent) as connection:
        answer = read(connection)
    shown = problem(answer)
    assert (shown["status"], shown["code"]) == (status, code)


@ONE_MODE
def test_requests_sent_ahead_are_answered_up_to_a_number(server: Deployment) -> None:
    with connect(server, head("GET /health/live") * 100) as connection:
        assert 10 < read(connection).count(b"HTTP/1.1 200 ") < 20


@ONE_MODE
def test_many_silent_connections_keep_nobody_away(server: Deployment) -> None:
    raise_own_descriptors(1200)
    with stays_flat(server) as look, ExitStack() as stack:
        for number in range(1000):
            stack.enter_context(connect(server))
            if number % 100 == 0:
                look()
        assert httpx.get(f"{server.url}/jobs", timeout=30).status_code == 200


def raise_own_descriptors(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(number, hard)), hard))


def until_closed(server: Deployment, connection: socket.socket) -> None:
    """Wait until the server has left a connection."""
    own = connection.getsockname()[1]
    deadline = time.monotonic() + 20
    process = psutil.Process(server.processes[0].pid)
    while any(other.raddr and other.raddr.port == own for other in process.net_connections("tcp")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until_idle(server: Deployment) -> None:
    """Wait until the process uses hardly any of a core, which has to come long before the waits would end."""
    process = psutil.Process(server.processes[0].pid)
    deadline = time.monotonic() + 20
    used, before = 1.0, sum(process.cpu_times()[:2])
    while used > 0.3:
        assert time.monotonic() < deadline
        time.sleep(1)
        used, before = sum(process.cpu_times()[:2]) - before, sum(process.cpu_times()[:2])


def accept(server: Deployment, photo: bytes) -> str:
    """A job that waits for workers: there are none in the cluster, and none is quick enough in one process."""
    with server.client() as api:
        return str(api.accepted(photo, ["denoise"])["id"])


#: an event that is yet to come
NEVER = f"msg_{'f' * 32}"


@ONE_MODE
def test_waits_are_bounded_and_end_with_their_client(server: Deployment, photo: bytes) -> None:
    waits = [head(f"GET /events?after={NEVER}", "Prefer: wait=60")] * 300
    with stays_flat(server) as look:
        for number, request in enumerate(waits):
            connect(server, request).close()
            if number % 100 == 0:
                look()
        until_idle(server)
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server, waits[0])) for _ in range(WAITS)]

        def is_full() -> bool:
            """A slow server may still have been busy with the first ones when some of these came."""
            opened.append(stack.enter_context(connect(server, waits[0])))
            return "preference-applied" not in one_more_wait(server).headers

        until(is_full)
        assert all(connection.fileno() > 0 for connection in opened)
    until(lambda: one_more_wait(server).headers.get("preference-applied") == "wait=1")


def one_more_wait(server: Deployment) -> httpx.Response:
    answer = httpx.get(f"{server.url}/events?after={NEVER}", headers={"Prefer": "wait=1"}, timeout=20)
    assert answer.json()["data"] == []
    return answer


@ONE_MODE
def test_a_job_is_waited_for_by_its_address(server: Deployment, photo: bytes) -> None:
    job_id = accept(server, photo)
    began = time.monotonic()
    answer = httpx.get(f"{server.url}/jobs/{job_id}", headers={"Prefer": "wait=1"}, timeout=20)
    assert (answer.status_code, answer.headers["vary"]) == (200, "Prefer")
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - began >= 0.9 or answer.json()["status"] not in {"pending", "processing"}
    httpx.post(f"{server.url}/jobs/{job_id}/cancel", timeout=30)
    began = time.monotonic()
    answer = httpx.get(f"{server.url}/jobs/{job_id}", headers={"Prefer": "wait=30"}, timeout=60)
    assert answer.json()["status"] in {"cancelled", "completed"}
    assert time.monotonic() - began < 10


@pytest.fixture
def few_descriptors(tmp_path: Path) -> Iterator[Deployment]:
    """A process that may open 256 files and sockets."""
    deployment = embedded(tmp_path)
    deployment.commands = [["tests.support.few_descriptors", "tests.support.little_grace", "app", "serve"]]
    with deployment.running():
        yield deployment


def test_few_descriptors_are_shared_out_and_a_stop_during_uploads_leaves_no_traceback(
    few_descriptors: Deployment,
) -> None:
    """With 256 of them, 300 silent connections keep no probe away."""
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(few_descriptors))
        assert lives(few_descriptors) < PATIENCE
        assert httpx.get(f"{few_descriptors.url}/jobs", timeout=30).status_code == 200
    expecting = ("Expect: 100-continue", f"Content-Type: {FORM}", "Content-Length: 1000000")
    upload = head("POST /process", *expecting) + b"--b\r\n"
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(few_descriptors, upload)) for _ in range(5)]
        assert all(connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n" for connection in opened), "they are read"
        few_descriptors.processes[0].send_signal(signal.SIGTERM)
        answers = [problem(read(connection)) for connection in opened]
    assert {answer["code"] for answer in answers} == {"stopping"}
    few_descriptors.processes[0].wait(20)
    log = few_descriptors.log.read_text()
    assert "connections_at_limit" in log
    assert "Traceback" not in log


def test_busy_connections_leave_room_for_the_probe_of_the_process(tmp_path: Path) -> None:
    deployment = embedded(tmp_path, PIXTOOLS_MAX_CONNECTIONS="10")
    deployment.start()
    try:
        with ExitStack() as stack:
            for _ in range(10):
                busy = stack.enter_context(connect(deployment, head("GET /events/stream")))
                assert busy.recv(12) == b"HTTP/1.1 200"
            for _ in range(100):
                stack.enter_context(connect(deployment))
            assert lives(deployment) < PATIENCE
            answer = httpx.get(f"{deployment.url}/jobs", timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_connections")
            assert answer.headers["retry-after"]
            assert answer.headers["connection"] == "close"
    finally:
        deployment.stop()


@ONE_MODE
def test_a_long_path_is_cut_in_the_log(server: Deployment) -> None:
    httpx.get(f"{server.url}/{'x' * 5000}", timeout=30)
    until(lambda: "x" * 200 in server.log.read_text())  # the line is written after the answer
    assert "x" * 300 not in server.log.read_text()
