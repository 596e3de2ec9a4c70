"""Limits on request bodies: their size, and the time in which a client may send nothing. Plain ASGI."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import problems
from app.errors import BodyTooLarge, PixToolsError, RequestTimedOut

LIMIT = "pixtools.body_limit"  # key in the ASGI scope; routes that read their body in pieces may change its value


class BodyMiddleware:
    """Refuses a body that is too large or stops arriving, whatever the application does about it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = scope["app"].state.resources.settings
        scope[LIMIT] = settings.max_json_bytes
        body = _Body(scope, receive, send, settings.silence_seconds)
        await self._app(scope, body.receive, body.send)


def allow_body(scope: Scope, limit: int) -> None:
    """Raise the limit for this body to `limit` bytes, for a route that does not keep it in memory."""
    scope[LIMIT] = limit


class _Body:
    """The body of one request while it is received, with the response if it is refused."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, silence_seconds: float) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._silence_seconds = silence_seconds
        self._announced = _announced(scope)
        self._size = 0
        self._is_complete = False
        self._refusal: PixToolsError | None = None
        self._has_begun = self._is_answered = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        self._check(max(self._announced, self._size))
        message = await self._next()
        if message["type"] != "http.request":
            return message
        body, within = message.get("body", b""), self._scope[LIMIT] - self._size
        self._size += len(body)
        if 0 < within < len(body):
            # data within the limit are passed on: the application may have a lower limit, with a better message
            return {**message, "body": body[:within], "more_body": True}
        self._check(self._size)
        self._is_complete = not message.get("more_body", False)
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await self._receive()
        except TimeoutError:
            detail = f"Nothing has arrived for {self._silence_seconds:g} seconds."
            self._refuse(RequestTimedOut(detail, limit=self._silence_seconds, headers={"Connection": "close"}))
            raise

    def _check(self, size: int) -> None:
        limit = self._scope[LIMIT]
        if size > limit:
            self._refuse(BodyTooLarge(f"The body is larger than {limit} bytes.", limit=limit, value=size))

    def _refuse(self, error: PixToolsError) -> None:
        self._refusal = error
        raise error

    async def send(self, message: Message) -> None:
        """Pass on a response; for a refused body, send the refusal instead of the application's own response."""
        if self._refusal is None or self._has_begun:
            self._has_begun = True
            await self._send(message)
        elif not self._is_answered:
            self._is_answered = True
            answer = problems.answer(self._refusal, instance=self._scope["path"])
            await answer(self._scope, self._receive, self._send)


def _announced(scope: Scope) -> int:
    """The announced length of the body in bytes; 0 if there is none."""
    announced = dict(scope["headers"]).get(b"content-length", b"")
    return int(announced) if announced.isdigit() else 0
