"""A receiver of webhooks that behaves like real ones: it accepts or refuses events, hangs, trickles, or resets."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 30.0  # seconds to wait for something that should happen at once


class HttpServer(ThreadingHTTPServer):
    """Many clients may connect while this process, busy with a test, accepts none."""

    request_queue_size = 128


@dataclass(frozen=True)
class Received:
    """A request."""

    at: float
    path: str
    #: names in lower case
    headers: dict[str, str]
    body: bytes

    @cached_property
    def event(self) -> dict[str, Any]:
        """The parsed body."""
        event: dict[str, Any] = json.loads(self.body)
        return event


class Handler(BaseHTTPRequestHandler):
    """Records a request, then answers it with the next behaviour."""

    receiver: "Receiver"

    def do_POST(self) -> None:
        expected = int(self.headers["content-length"])
        body = self.rfile.read(expected)
        if len(body) < expected:
            return  # the sender died while sending
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.behaviour(Received(time.monotonic(), self.path, headers, body))(self)

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.behaviour(Received(time.monotonic(), self.path, headers, b""))(self)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


Behaviour = Callable[[Handler], None]


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer with a status; keywords are headers, e.g. `retry_after="5"`."""

    def behave(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def by_path(behaviours: Mapping[str, Behaviour]) -> Behaviour:
    """Choose the behaviour by the path of the request, without its query; other paths are not found."""

    def behave(handler: Handler) -> None:
        behaviours.get(handler.path.partition("?")[0], answer(404))(handler)

    return behave


def endless(handler: Handler) -> None:
    """Answer 200 with an endless body, without a length."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.receiver.closing.is_set():
            handler.connection.sendall(b"x" * 65536)
    except OSError:
        pass


def hang(handler: Handler) -> None:
    """Accept the request and never answer."""
    handler.receiver.closing.wait(PATIENCE)


def drip(handler: Handler) -> None:
    """Send a byte now and then, without end."""
    try:
        while not handler.receiver.closing.wait(0.1):
            handler.connection.sendall(b"H")
    except OSError:
        pass


def drip_body(handler: Handler) -> None:
    """Answer 200 at once, then send the body byte by byte without end."""
    handler.send_response(200)
    handler.end_headers()
    drip(handler)


def reset(handler: Handler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def garble(handler: Handler) -> None:
    """Answer with bytes that are not HTTP."""
    handler.connection.sendall(b"\x16\x03 what?\r\n\r\n")


def flood(handler: Handler) -> None:
    """Answer 200 with a body of a gigabyte."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    try:
        while not handler.receiver.closing.is_set():
            handler.connection.sendall(b"x" * 65536)
    except OSError:
        pass


@dataclass
class Receiver:
    """Listens on its own port. Each request takes the next behaviour; the last one applies to all further requests."""

    behaviours: list[Behaviour] = field(default_factory=lambda: [answer(204)])
    requests: list[Received] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.origin}/hook"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def ids(self) -> list[str]:
        """The `webhook-id` of every request."""
        return [request.headers["webhook-id"] for request in self.requests]

    def behaviour(self, request: Received) -> Behaviour:
        with self._lock:
            self.requests.append(request)
            return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]

    def behave(self, *behaviours: Behaviour) -> None:
        """Replace the behaviours."""
        with self._lock:
            self.behaviours[:] = behaviours

    def await_requests(self, count: int, timeout: float = PATIENCE) -> list[Received]:
        """Wait for a number of requests; returns all so far."""
        deadline = time.monotonic() + timeout
        while len(self.requests) < count:
            assert time.monotonic() < deadline, f"{len(self.requests)} requests instead of {count}"
            time.sleep(0.01)
        return self.requests


@contextmanager
def receiving(*behaviours: Behaviour, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that listens within the block."""
    receiver = Receiver(list(behaviours) or [answer(204)], host=host, scheme="https" if tls else "http")
    server = HttpServer((host, 0), type("_Handler", (Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that disconnects is not an error here
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
