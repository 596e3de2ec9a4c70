"""Listeners: requests that stay open and receive the events of one job, or of all jobs of a tenant, as they happen.

All listeners of one process share one reader of the database, which polls only while there are listeners and encodes
each event once for all of them. Polling also finds what other processes did, so any number of API processes may run
and restart. Each listener has a short queue of events that have not been sent yet. A listener that falls behind reads
the log itself from its place, as does a client that reconnects. So no event is lost, and queues stay short.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from app import metrics
from app.backoff import Backoff
from app.database import Database, TenantDatabase
from app.database_errors import DATABASE_ERRORS, is_away, name_of
from app.errors import Stopping, TooManyListeners
from app.models import JOB_OPEN, EventType, Scope
from app.schemas import EventView
from app.services import jobs
from app.services.access import keys
from app.services.access.door import Door
from app.services.access.principal import Principal
from app.services.job_views import job_view
from app.services.storage.links import DownloadLinks
from app.services.webhooks import events

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.4  # seconds between two polls; the pause grows by half while nothing happens
KEY_SECONDS = 2.0  # between two checks whether the keys of listeners are still valid
MOST_KEPT = 50  # events that wait for one listener; with more it reads the log itself
JOBS_AT_ONCE = 50  # jobs whose state is read in one transaction
RETRY_AFTER = 10  # seconds after which a client that found no room should try again
AWAY = Backoff(first=0.5, longest=5.0, least_share=0.5)  # pauses while the database does not answer


class Ended(StrEnum):
    """The reason for the end of a listener's stream."""

    #: the job has ended, or is gone
    JOB = "job"
    #: its client has disconnected
    LEFT = "left"
    #: its key is no longer valid
    KEY = "key"
    #: it has listened for as long as a request may; its client may reconnect
    TIME = "time"
    #: the process has to stop
    STOPPING = "stopping"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a listener has subscribed to."""

    principal: Principal
    #: None: the log of the whole tenant
    job_id: UUID | None = None
    type: EventType | None = None

    def concerns(self, entry: events.Entry) -> bool:
        if entry.tenant != self.principal.tenant or self.type not in {None, entry.type}:
            return False
        return self.job_id in {None, entry.job_id}


@dataclass(eq=False, slots=True)
class Listener:
    """One open request."""

    wanted: Wanted
    #: events up to here have been sent
    place: int
    #: True: the event log has more events for it than `log` contains
    behind: bool
    #: encoded events after `place`, each with its place
    log: deque[tuple[int, bytes]] = field(default_factory=deque)
    #: the latest state of the job that has not been sent yet, encoded
    state: bytes | None = None
    #: mark of the state that it received last
    mark: jobs.Mark | None = None
    ended: Ended | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, why: Ended) -> None:
        self.ended = self.ended or why
        self.woken.set()

    def add(self, place: int, encoded: bytes) -> None:
        if self.behind:
            return  # the listener reads the log itself
        if len(self.log) >= MOST_KEPT:
            self.log.clear()
            self.behind = True
        else:
            self.log.append((place, encoded))
        self.woken.set()

    def show(self, encoded: bytes | None, mark: jobs.Mark) -> None:
        """Set the state of the job to send; it replaces one that has not been sent yet."""
        self.state, self.mark = encoded, mark
        self.woken.set()


def encode(event: str, data: str, id_: str | None = None) -> bytes:
    """Encode a server-sent event."""
    own_id = f"id: {id_}\n" if id_ else ""
    return f"event: {event}\n{own_id}data: {data}\n\n".encode()


def encode_logged(event: Mapping[str, Any]) -> bytes:
    """Encode a stored event, in the form of `GET /events`."""
    view = EventView(**event)
    return encode("log", view.model_dump_json(), view.id)


@dataclass
class Live:
    """The listeners of one process."""

    database: Database
    links: DownloadLinks
    door: Door
    #: listeners at a time, in all and of one tenant
    most: int
    most_of_tenant: int
    #: set when all listeners are to end
    stopping: threading.Event
    _listeners: set[Listener] = field(default_factory=set)
    _reader: asyncio.Task[None] | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _pause: float = FIRST_PAUSE
    #: place up to which the log has been read
    _place: int = 0
    _keys_at: float = 0.0

    @asynccontextmanager
    async def join(self, wanted: Wanted, place: int | None) -> AsyncIterator[Listener]:
        """Listen until the context ends.

        Args:
            wanted: the subscription.
            place: the place in the log after which every event is sent; None: only events from now on.

        Raises:
            TooManyListeners: the limit on listeners is reached.
            Stopping: the process is stopping.
        """
        self._check_room(wanted.principal.tenant)
        listener = Listener(wanted, place or 0, behind=place is not None)
        self._listeners.add(listener)
        count = metrics.LISTENERS.labels("job" if wanted.job_id else "log")
        count.inc()
        try:
            await self._start()
            if place is None:
                listener.place = self._place
            self._pause = FIRST_PAUSE
            self._look.set()
            yield listener
        finally:
            self._listeners.discard(listener)
            count.dec()
            metrics.LISTENERS_ENDED.labels(listener.ended or Ended.LEFT).inc()
            if not self._listeners:
                self._look.set()  # lets the reader end

    async def place(self, own: TenantDatabase, cursor: str) -> int:
        """The place in the log of the last event that a client has seen.

        Raises:
            InvalidCursor: the cursor cannot be the id of an event.
        """
        while (place := await own.read(events.place, cursor)) is None:
            await self.database.call(events.number)
        return place

    async def catch_up(self, listener: Listener, own: TenantDatabase) -> AsyncIterator[bytes]:
        """Events from the log for a listener that is behind, page by page, as fast as the client reads."""
        wanted = listener.wanted
        while listener.behind:
            listener.behind = False  # reset first, so that events during the read are queued
            page = partial(events.page, links=self.links, limit=MOST_KEPT, type_=wanted.type, job_id=wanted.job_id)
            logged, place, more = await own.read(page, after=listener.place)
            for event in logged:
                yield encode_logged(event)
            listener.place = place
            listener.behind |= more

    def _check_room(self, tenant: str) -> None:
        if self.stopping.is_set():
            raise Stopping
        if len(self._listeners) >= self.most:
            detail = f"This server already holds {self.most} streams of events, the most that it may."
            raise TooManyListeners(detail, limit=self.most, retry_after=RETRY_AFTER, extra=_named("max_listeners"))
        own = sum(listener.wanted.principal.tenant == tenant for listener in self._listeners)
        if own >= self.most_of_tenant:
            detail = (
                f"Your tenant has {own} streams of events open at this server, the most that it may. Close some; one "
                "GET /events/stream has the events of all jobs."
            )
            extra = _named("tenant_max_listeners")
            raise TooManyListeners(detail, limit=self.most_of_tenant, retry_after=RETRY_AFTER, extra=extra)

    async def _start(self) -> None:
        """Start the reader unless it is running; it sends the events after the current end of the log."""
        async with self._starting:
            if self._reader is None or self._reader.done():
                self._loop = asyncio.get_running_loop()
                self._place = await self.database.read(events.end)
                self._keys_at = time.monotonic() + KEY_SECONDS
                self._reader = asyncio.create_task(self._read(), context=Context())  # belongs to no request

    def notify(self, _job_id: UUID) -> None:
        """Note that a job has ended in this process; may be called from any thread."""
        if self._listeners and self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look.set)

    # -- the reader ----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Poll for the events of listeners, as long as there are any listeners."""
        away = iter(AWAY.pauses())
        while self._listeners:
            try:
                async with asyncio.timeout(self._pause):
                    await self._look.wait()
            except TimeoutError:
                self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
            self._look.clear()
            if self.stopping.is_set():
                _end(self._listeners, Ended.STOPPING)
                return
            try:
                await self._look_once()
                away = iter(AWAY.pauses())
            except Exception as error:
                is_known = isinstance(error, DATABASE_ERRORS) and is_away(error)
                log.warning("listeners_not_told", extra={"error": name_of(error)}, exc_info=not is_known)
                self._pause = next(away)

    async def _look_once(self) -> None:
        """Poll once: states first, so that the log, read later, contains the event of a job whose state has ended."""
        listeners = tuple(self._listeners)
        await self._check_keys(listeners)
        of_jobs = [listener for listener in listeners if listener.wanted.job_id and not listener.ended]
        ids = {listener.wanted.job_id for listener in of_jobs if listener.wanted.job_id}
        marks = await self.database.read(jobs.marks, ids) if ids else {}
        happened = await self._send_log()
        happened |= await self._send_states(of_jobs, marks)
        if happened:
            self._pause = FIRST_PAUSE

    async def _check_keys(self, listeners: Sequence[Listener]) -> None:
        """End listeners whose key was revoked, has expired or was deleted with its tenant; one query for all."""
        if time.monotonic() < self._keys_at:
            return
        self._keys_at = time.monotonic() + KEY_SECONDS
        ids = {key_id for listener in listeners if (key_id := listener.wanted.principal.key_id)}
        good: set[str | None] = set(await self.database.read(keys.open_among, ids, Scope.JOBS_READ)) if ids else set()
        if any(listener.wanted.principal.key_id is None for listener in listeners) and await self.door.is_open():
            good.add(None)
        _end((each for each in listeners if each.wanted.principal.key_id not in good), Ended.KEY)

    async def _send_log(self) -> bool:
        """Send new events of the log to listeners; returns whether there were any."""
        unnumbered = await self.database.read(events.has_unnumbered)
        if unnumbered and await self.database.call(events.number) == events.BATCH:
            self._look.set()
        added = await self.database.read(events.behind, self._place)
        listeners = tuple(self._listeners)  # taken after the read: later listeners read the log up to here themselves
        concerned = {entry.id: [each for each in listeners if each.wanted.concerns(entry)] for entry in added}
        wanted = [entry.id for entry in added if concerned[entry.id]]
        views = await self.database.read(events.views, wanted, self.links) if wanted else {}
        for entry in added:
            if entry.id in views:  # otherwise no listener wants it, or it was deleted meanwhile
                encoded = encode_logged(views[entry.id])
                for listener in concerned[entry.id]:
                    listener.add(entry.position, encoded)
        if added:
            self._place = added[-1].position
        if len(added) == events.BATCH:
            self._look.set()
        return bool(added)

    async def _send_states(self, of_jobs: Sequence[Listener], marks: Mapping[UUID, jobs.Mark]) -> bool:
        """Send the states of jobs that have changed; returns whether there were any."""
        changed: dict[UUID, list[Listener]] = {}
        for listener in of_jobs:
            job_id = listener.wanted.job_id
            if job_id is None or job_id not in marks:
                listener.end(Ended.JOB)  # the job was deleted
            elif marks[job_id] != listener.mark:
                changed.setdefault(job_id, []).append(listener)
        ids = list(changed)
        for start in range(0, len(ids), JOBS_AT_ONCE):
            states = await self.database.read(_states, ids[start : start + JOBS_AT_ONCE], self.links)
            for job_id, (encoded, is_open) in states.items():
                _show(changed[job_id], encoded, marks[job_id], is_open=is_open)
        return bool(changed)


def _named(limit: str) -> dict[str, str]:
    return {"limit_name": limit}


def _show(listeners: Iterable[Listener], encoded: bytes, mark: jobs.Mark, *, is_open: bool) -> None:
    """Give a state to listeners; but if the job has ended since its mark was read, leave that to the next poll."""
    if not is_open and mark.status in JOB_OPEN:
        return
    for listener in listeners:
        listener.show(encoded, mark)
        if not is_open:
            listener.end(Ended.JOB)


def _states(session: Any, ids: Sequence[UUID], links: DownloadLinks) -> dict[UUID, tuple[bytes, bool]]:
    """The encoded representations of jobs by id, and whether each job is open."""
    found = jobs.some(session, ids)
    return {job.id: (encode("job", job_view(job, links).model_dump_json()), job.status in JOB_OPEN) for job in found}


def _end(listeners: Iterable[Listener], why: Ended) -> None:
    for listener in tuple(listeners):
        listener.end(why)
