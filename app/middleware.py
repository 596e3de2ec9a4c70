"""Gives every request an id, a span, a log line and metrics. Plain ASGI."""

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import metrics, problems, tracing
from app.errors import Stopping
from app.services.access.rates import RATE_HEADERS

log = logging.getLogger(__name__)

WELL_FORMED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
CONTEXT = (b"traceparent", b"tracestate")
QUIET = ("/health", "/metrics")  # polled every few seconds by machines
NO_ROUTE = "none"  # label for unknown paths, which could be anything
DISCONNECTED = 499  # nginx's status for a client that disconnected before its answer
MAX_LOGGED = 256  # characters of a path

#: Defaults for response headers: no caching, and as a page the response may do nothing.
PRIVATE = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",  # links are signed in their query
    b"x-content-type-options": b"nosniff",
}


class RequestMiddleware:
    """The outermost middleware of the application, which also answers crashes and requests that a stop cuts off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b""))
        context = {name.decode(): headers[name].decode("latin-1") for name in CONTEXT if name in headers}
        answer = _Answer(send, request_id.encode(), scope)
        started = time.perf_counter()
        with tracing.request(request_id, context, scope["method"]) as span:
            try:
                await self._app(scope, receive, answer.send)
            except asyncio.CancelledError:  # raised only by the server, when its time to stop is over
                log.info("request_cut_off", extra={"path": scope["path"][:MAX_LOGGED]})
                if not answer.status:
                    await problems.answer(Stopping())(scope, receive, answer.send)
            except Exception as error:
                log.exception("request_crashed")
                tracing.fail(span, type(error).__name__)
                if answer.status:
                    raise  # makes the server close the connection, since the response is incomplete
                await problems.crash()(scope, receive, answer.send)
            finally:
                _observe(scope, answer.status or DISCONNECTED, time.perf_counter() - started, span)


class _Answer:
    """Records the status of a response; adds the request id, the rate limit and the headers for private content."""

    def __init__(self, send: Send, request_id: bytes, scope: Scope) -> None:
        self._send = send
        self._header = (b"x-request-id", request_id)
        self._scope = scope
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), self._header, *self._scope.get(RATE_HEADERS, ())]
            given = {name.lower() for name, _ in headers}
            headers += [header for header in PRIVATE.items() if header[0] not in given]
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(given: bytes) -> str:
    return given.decode() if WELL_FORMED.fullmatch(given) else secrets.token_hex(16)


def _observe(scope: Scope, status: int, seconds: float, span: Span) -> None:
    method = metrics.known(scope["method"], metrics.METHODS)
    route = getattr(scope.get("route"), "path", NO_ROUTE)
    metrics.count_request(method, route, status, seconds)
    _describe(span, method, route, status)
    fields: dict[str, Any] = {
        "method": method,
        "path": scope["path"][:MAX_LOGGED],
        "status": status,
        "seconds": round(seconds, 4),
    }
    log.log(logging.DEBUG if scope["path"].startswith(QUIET) else logging.INFO, "request", extra=fields)


def _describe(span: Span, method: str, route: str, status: int) -> None:
    if not span.is_recording():
        return
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if status >= 500:
        tracing.fail(span, str(status))
