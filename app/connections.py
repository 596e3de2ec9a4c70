"""uvicorn's HTTP protocol with limits on the memory, time and connections that clients may use.

uvicorn does not limit these three. Memory: here all connections read through one small shared buffer, and headers,
trailers and pipelined requests are counted. Time: there are limits for the head of a request, for the rest of a body
that is no longer read, and for a response that its client does not read. Number: at the limit, a new connection
replaces the oldest one without a request. If all have a request, the new one is answered with 503, except for the
liveness probe.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import problems
from app.errors import HeadTooLarge, InvalidRequest, PixToolsError, RequestTimedOut, TooManyConnections

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024  # bytes; uvicorn stops reading when more of a body than this is waiting
MAX_PIPELINED = 16  # requests of one connection that wait for an earlier response
TOO_MANY = 32  # connections above the limit, so that a probe still gets through
LINGER_SECONDS = 10.0  # time to receive the rest of a body whose request has already been answered
SWEEP_SECONDS = 1.0  # between two checks of all connections
QUIET_SECONDS = 60.0  # between two log lines about refused connections
ALWAYS_ANSWERED = "/health/live"
CLOSE = (b"connection", b"close")

_buffer = bytearray(READ_SIZE)
_read = memoryview(_buffer)


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The limits for clients, each of them a setting."""

    head_bytes: int
    headers: int
    head_seconds: float
    silence_seconds: float
    connections: int


@dataclass
class Connections:
    """All connections of one server."""

    limits: ConnectionLimits
    #: open connections, oldest first
    _open: dict["Connection", None] = field(default_factory=dict)
    _sweep_at: asyncio.TimerHandle | None = None
    _told_at: float = float("-inf")

    def protocol(self, *args: Any, **options: Any) -> "Connection":
        """Create the protocol of a new connection."""
        return Connection(self, *args, **options)

    def admit(self, connection: "Connection") -> None:
        """Count a new connection; above the limit, make room for it or answer it with 503."""
        most = self.limits.connections
        if len(self._open) >= most:
            self._tell()
            self._give_up(other for other in self._open if other.is_admitted)
        connection.is_admitted = len(self._open) < most
        if len(self._open) >= most + TOO_MANY:
            self._give_up(self._open)
        self._open[connection] = None
        if self._sweep_at is None:
            self._sweep_later()

    def leave(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    def _give_up(self, connections: Iterable["Connection"]) -> None:
        """Close the oldest of these connections that has no request."""
        idle = next((connection for connection in connections if not connection.is_busy), None)
        if idle is not None:
            self.leave(idle)
            idle.give_way()

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= QUIET_SECONDS:
            self._told_at = now
            log.warning("connections_at_limit", extra={"limit": self.limits.connections})

    def _sweep_later(self) -> None:
        pause = min(SWEEP_SECONDS, self.limits.head_seconds / 2)
        self._sweep_at = asyncio.get_running_loop().call_later(pause, self._sweep)

    def _sweep(self) -> None:
        self._sweep_at = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.check(now)
        if self._open:
            self._sweep_later()


class _Http(HttpToolsProtocol):
    """uvicorn's protocol, with limits on the memory of one connection."""

    def __init__(self, limits: ConnectionLimits, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_headers = limits.headers
        self._max_requests = limits.connections
        self._whole_app = self.app
        self.is_admitted = True
        self.in_head = self.in_body = False
        #: a counter that rises with progress, but not with mere parts of heads and trailers
        self.progress = 0
        self.refusal: PixToolsError | None = None
        #: True: more requests were pipelined than are kept
        self.is_full = False

    @property
    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_heard(self) -> bool:
        return self.refusal is None and not self.is_full

    def on_message_begin(self) -> None:
        self.in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer; uvicorn would add it to the headers
        if len(self.headers) < self._max_headers:
            super().on_header(name, value)
        else:
            detail = f"The request has more than {self._max_headers} headers."
            self.refusal = HeadTooLarge(detail, limit=self._max_headers)

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        self.progress += 1
        if len(self.pipeline) >= MAX_PIPELINED:
            self.is_full = True
            self.cycle.keep_alive = False  # the client has to send the other requests again
        # requests whose clients have disconnected are still processed, so they count as well
        is_answered = self.is_admitted and len(self.tasks) < self._max_requests
        self.app = self._whole_app if is_answered else partial(_only_live, self._whole_app)
        if self._is_heard:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.progress += 1
        if self._is_heard:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        self.progress += 1
        if self._is_heard:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self.refusal = InvalidRequest("This is not a well-formed HTTP request.")

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing, since a server may ignore requests to upgrade."""


class Connection(asyncio.BufferedProtocol):
    """One connection, which reads no more than `READ_SIZE` at a time.

    This is a wrapper, not a subclass: uvloop ignores the buffer of an object that is also an `asyncio.Protocol`.
    """

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        self.is_admitted = True
        self._connections = connections
        self._limits = connections.limits
        self._http = _Http(self._limits, *args, **options)
        self._transport: Any = None
        self._head = 0  # bytes since the last one that was no part of a head or trailer
        self._has_asked = False
        self._waits_since: float | None = None  # start of the wait for the rest of a head
        self._lingers_since: float | None = None
        self._unread = (0, 0.0)  # bytes of the response that the client has not read, and since when

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._http.in_body or self._http.is_answering

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._waits_since = asyncio.get_running_loop().time()
        self._http.connection_made(transport)
        self._connections.admit(self)
        self._http.is_admitted = self.is_admitted

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        self._http.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        before = self._http.progress
        self._http.data_received(bytes(_read[:nbytes]))
        moved = self._http.progress != before
        self._has_asked |= moved
        self._head = 0 if moved else self._head + nbytes
        if self._head > self._limits.head_bytes:
            detail = f"The headers or trailers of the request have more than {self._limits.head_bytes} bytes."
            self._http.refusal = HeadTooLarge(detail, limit=self._limits.head_bytes, value=self._head)
        if self._http.refusal:
            self._refuse(self._http.refusal)
        elif self.is_busy:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = asyncio.get_running_loop().time()

    def check(self, now: float) -> None:
        """Close the connection of a client that has taken too long."""
        limits = self._limits
        if self._transport.is_closing():
            return
        if self._waits_since is not None and not self.is_busy and now - self._waits_since > limits.head_seconds:
            detail = f"The head of the request was not complete after {limits.head_seconds:g} seconds."
            self._refuse(RequestTimedOut(detail, limit=limits.head_seconds) if self._head else None)
        elif self._leaves_answer(now):
            self._transport.abort()
        elif self._lingers_too_long(now):
            self._transport.close()

    def _lingers_too_long(self, now: float) -> bool:
        if self._http.is_answering or not self._http.in_body:
            self._lingers_since = None
            return False
        self._lingers_since = self._lingers_since or now
        return now - self._lingers_since > LINGER_SECONDS

    def _leaves_answer(self, now: float) -> bool:
        left = self._transport.get_write_buffer_size()
        if not left or left != self._unread[0]:
            self._unread = (left, now)
        return bool(left) and now - self._unread[1] > self._limits.silence_seconds

    def give_way(self) -> None:
        """Close a connection without a request; one that has never sent any gets a response with the reason."""
        self._refuse(None if self._has_asked else TooManyConnections(limit=self._limits.connections))

    def _refuse(self, error: PixToolsError | None) -> None:
        if self._transport.is_closing():
            return
        if error and not self._http.is_answering:  # a response within another one would not be valid HTTP
            self._transport.write(_wire(error))
        self._transport.close()

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()


def _wire(error: PixToolsError) -> bytes:
    """An HTTP response with a problem in bytes, for requests that do not reach the application."""
    answer = problems.answer(error)
    status = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}".encode()
    headers = (b": ".join(header) for header in (*answer.raw_headers, CLOSE))
    return b"\r\n".join((status, *headers, b"", bytes(answer.body)))


async def _only_live(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request above the limit on connections: the liveness probe as usual, others with 503; then close."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        await send(message)

    if scope["path"] == ALWAYS_ANSWERED:
        await app(scope, receive, closing)
    else:
        await problems.answer(TooManyConnections())(scope, receive, closing)
