"""Live events: responses that stay open (server-sent events)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.database import TenantDatabase
from app.models import EventType
from app.models import Scope as KeyScope
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import CurrentResources, JobId
from app.routers.openapi import STREAM_RESPONSES
from app.services import jobs
from app.services.live import Ended, Listener, Live, Wanted
from app.services.webhooks import events
from app.wiring import Resources

router = APIRouter(tags=["jobs"])
READ = [needs(KeyScope.JOBS_READ)]

MEDIA_TYPE = "text/event-stream"
COMMENT_SECONDS = 15.0  # after this time without an event, a comment keeps the connection alive
COMMENT = b": still here\n\n"
RETRY_MS = (500, 2500)  # a random time until a client reconnects, so that not all come back at once
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would buffer events

LastEventId = Annotated[
    str,
    Header(
        description="The `id` of the last event that was received: later ones are sent first. Empty: none.",
        json_schema_extra={"pattern": f"{events.CURSOR}|^$"},
    ),
]


class EventStream(Response):
    """A response that stays open until the listener ends or the client disconnects.

    It is not a `StreamingResponse`, whose task group would cost more than everything else about an idle listener.
    """

    media_type = MEDIA_TYPE

    def __init__(self, stream: "Stream") -> None:
        super().__init__(headers=HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stream.opened() as (listener, first):
            gone = asyncio.create_task(_end_when_left(receive, listener))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _send(send, first)
                async for chunk in self._stream.chunks(listener):
                    await _send(send, chunk)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()


async def _send(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _end_when_left(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end(Ended.LEFT)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The events for one client, in order."""

    live: Live
    own: TenantDatabase
    wanted: Wanted
    #: id of the last event that the client has received; None: no event
    cursor: str | None
    #: length of the stream, after which the client has to reconnect
    seconds: float

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Listener, bytes]]:
        """Open a stream; yields a new listener, and the first chunk for its client."""
        place = await self._place()
        async with self.live.join(self.wanted, place) as listener:
            # an id without data is not an event, but a client cut off before its first event resumes there
            cursor = await self.own.read(events.latest, listener.place) if place is None else self.cursor
            known = f"id: {cursor}\n" if cursor else ""
            yield listener, f"retry: {random.randint(*RETRY_MS)}\n{known}\n".encode()

    async def _place(self) -> int | None:
        if self.cursor is not None:
            return await self.live.place(self.own, self.cursor)
        return 0 if self.wanted.job_id else None

    async def chunks(self, listener: Listener) -> AsyncIterator[bytes]:
        """Encoded events as they come: first those of the log, then the state of the job, which may be the last one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.seconds
        while listener.ended is not Ended.LEFT:
            async for encoded in self._logged(listener):
                yield encoded
            if listener.state is not None and not listener.behind and not listener.log:
                encoded, listener.state = listener.state, None
                yield encoded
            elif listener.behind or listener.log:
                continue
            elif listener.ended:
                return
            else:
                silent = not await _woken(listener, min(COMMENT_SECONDS, until - loop.time()))
                if loop.time() >= until:
                    listener.end(Ended.TIME)
                elif silent:
                    yield COMMENT

    async def _logged(self, listener: Listener) -> AsyncIterator[bytes]:
        if listener.ended in {Ended.KEY, Ended.STOPPING}:
            listener.log.clear()
            listener.state, listener.behind = None, False
        async for encoded in self.live.catch_up(listener, self.own):
            yield encoded
        while listener.log and not listener.behind:
            place, encoded = listener.log.popleft()
            if place > listener.place:
                listener.place = place
                yield encoded


async def _woken(listener: Listener, seconds: float) -> bool:
    """Wait until there is something to send; returns False after `seconds` without anything."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await listener.woken.wait()
    except TimeoutError:
        return False
    listener.woken.clear()
    return True


@router.get(
    "/jobs/{job_id}/events",
    dependencies=READ,
    summary="Live events of one job",
    response_class=StreamingResponse,
    responses=STREAM_RESPONSES,
)
async def watch_job(
    job_id: JobId,
    resources: CurrentResources,
    own: Own,
    principal: CurrentPrincipal,
    last_event_id: LastEventId = "",
) -> EventStream:
    """Server-sent events: `job` with the whole job, at once and after every change, and `log` with each stored event of
    the job, as `GET /events` shows it. The stream ends when the job has ended."""
    await own.read(jobs.must_exist, job_id)
    return _stream(resources, own, Wanted(principal=principal, job_id=job_id), last_event_id or None)


@router.get(
    "/events/stream",
    dependencies=READ,
    summary="Live events of all jobs",
    response_class=StreamingResponse,
    responses=STREAM_RESPONSES,
    tags=["webhooks"],
)
async def stream_events(
    resources: CurrentResources,
    own: Own,
    principal: CurrentPrincipal,
    after: Annotated[
        str | None,
        Query(
            description="Id of the event after which to begin; 0: from the beginning; default: only new events.",
            json_schema_extra={"pattern": events.CURSOR},
        ),
    ] = None,
    type: Annotated[EventType | None, Query(description="Only events of this type.")] = None,  # noqa: A002
    last_event_id: LastEventId = "",
) -> EventStream:
    """Server-sent events with the name `log`: all events of `GET /events`, in the same order. After a broken connection
    the client sends the `id` of its last event as `Last-Event-ID`, which overrides `after`."""
    cursor = last_event_id or after
    if after is not None:
        events.check(after)
    return _stream(resources, own, Wanted(principal=principal, type=type), cursor)


def _stream(resources: Resources, own: TenantDatabase, wanted: Wanted, cursor: str | None) -> EventStream:
    seconds = resources.settings.listen_seconds
    return EventStream(Stream(live=resources.live, own=own, wanted=wanted, cursor=cursor, seconds=seconds))
