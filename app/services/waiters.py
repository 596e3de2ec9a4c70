"""Requests that wait for something: the end of a job, or another event in the log.

All waiting requests of one process share one reader of the database, which polls only while there are any. The end of a
job in this process notifies them at once. To find ends in other processes the reader polls, at growing intervals until
a new request comes.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.database import Database
from app.models import JOB_OPEN
from app.services import jobs
from app.services.webhooks import events

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two polls; the pause grows by half each time
FIRST_PAUSE_ALONE = 0.2  # longer if all jobs end in this process: polls only find jobs that ended before the wait began

Left = Callable[[], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class _Waiter:
    """One request that waits."""

    #: it waits for the end of this job; None: for an event
    job_id: UUID | None = None
    #: tenant of the event, and the place in the log after which it has to come
    tenant: str = ""
    after: int = 0
    type: str | None = None
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def notify(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)


@dataclass
class Waiters:
    """The waiting requests of one process."""

    database: Database
    #: requests that may wait at a time
    most: int
    #: set when all waiting is to end
    stopping: threading.Event
    #: True: all jobs end in this process
    alone: bool = False
    _waiting: set[_Waiter] = field(default_factory=set)
    _reader: asyncio.Task[None] | None = None
    _look: asyncio.Event | None = None
    _pause: float = FIRST_PAUSE

    async def job(
        self, job_id: UUID, seconds: float, left: Left, *, is_new: bool = False, tenant: str | None = None
    ) -> bool:
        """Wait until a job has ended, the time is over, or this process has to stop.

        Returns False at once if too many requests wait already, or the process is stopping.

        Args:
            job_id: id of the job.
            seconds: longest wait.
            left: returns when the client has disconnected, which ends the wait.
            is_new: whether the job has just been accepted; any other job may have ended long ago, so it is read first.
            tenant: tenant of the job, since a wait for another tenant's job would reveal it. None: any tenant.
        """
        with self._waits(_Waiter(job_id=job_id)) as waiter:
            if waiter and (is_new or await self._status(job_id, tenant) in JOB_OPEN):
                await _wait(waiter, seconds, left)
        return waiter is not None

    async def _status(self, job_id: UUID, tenant: str | None) -> str | None:
        rows = self.database.of(tenant) if tenant else self.database
        return await rows.read(jobs.status_of, job_id)

    async def event(self, after: int, type_: str | None, seconds: float, left: Left, *, tenant: str) -> bool:
        """Wait for an event of a tenant and a type after a place in the log; for the rest see `job`."""
        with self._waits(_Waiter(tenant=tenant, after=after, type=type_)) as waiter:
            if waiter:
                await _wait(waiter, seconds, left)
        return waiter is not None

    def notify(self, job_id: UUID) -> None:
        """Note that a job has ended in this process; may be called from any thread."""
        for waiter in tuple(self._waiting):
            if waiter.job_id == job_id:
                waiter.ready.get_loop().call_soon_threadsafe(waiter.notify)
            elif waiter.job_id is None and self._look:
                waiter.ready.get_loop().call_soon_threadsafe(self._look.set)

    @contextmanager
    def _waits(self, waiter: _Waiter) -> Iterator[_Waiter | None]:
        if len(self._waiting) >= self.most or self.stopping.is_set():
            yield None
            return
        self._waiting.add(waiter)
        self._pause = FIRST_PAUSE_ALONE if self.alone else FIRST_PAUSE
        if self._reader is None or self._reader.done():
            self._look = asyncio.Event()
            self._reader = asyncio.create_task(self._read(self._look), context=Context())  # belongs to no request
        try:
            yield waiter
        finally:
            self._waiting.discard(waiter)
            if not self._waiting and self._look:
                self._look.set()  # lets the reader end

    async def _read(self, look: asyncio.Event) -> None:
        """Poll for all waiting requests, while there are any."""
        while self._waiting:
            try:
                async with asyncio.timeout(self._pause):
                    await look.wait()
            except TimeoutError:
                self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
            look.clear()
            await self._look_once()

    async def _look_once(self) -> None:
        waiting = tuple(self._waiting)
        if self.stopping.is_set():
            for waiter in waiting:
                waiter.notify()
            return
        try:
            await self._look_at_jobs([waiter for waiter in waiting if waiter.job_id])
            await self._look_at_log([waiter for waiter in waiting if waiter.job_id is None])
        except Exception as error:  # noqa: BLE001 - whatever it is, every one of them has to answer it
            for waiter in waiting:
                waiter.fail(error)

    async def _look_at_jobs(self, waiting: list[_Waiter]) -> None:
        ids = {waiter.job_id for waiter in waiting if waiter.job_id}
        open_ones = await self.database.read(jobs.open_among, ids) if ids else set()
        for waiter in waiting:
            if waiter.job_id not in open_ones:
                waiter.notify()

    async def _look_at_log(self, waiting: list[_Waiter]) -> None:
        """Wake waiters for events; their places move on with the log, so that no event is examined twice."""
        if not waiting:
            return
        if await self.database.read(events.has_unnumbered):
            await self.database.call(events.number)
        added = await self.database.read(events.behind, min(waiter.after for waiter in waiting))
        for waiter in waiting:
            if any(entry.position > waiter.after and _concerns(waiter, entry) for entry in added):
                waiter.notify()
            elif added:
                waiter.after = max(waiter.after, added[-1].position)


def _concerns(waiter: _Waiter, entry: events.Entry) -> bool:
    return waiter.tenant == entry.tenant and waiter.type in {None, entry.type}


async def _wait(waiter: _Waiter, seconds: float, left: Left) -> None:
    gone = asyncio.ensure_future(left())
    both: tuple[asyncio.Future[Any], ...] = (waiter.ready, gone)
    try:
        done, _ = await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if waiter.ready in done:
            waiter.ready.result()  # raises the reader's error, if it failed
    finally:
        for future in both:
            future.add_done_callback(_forget)
            future.cancel()


def _forget(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a future that is no longer needed; otherwise asyncio would log it."""
    if not future.cancelled():
        future.exception()
