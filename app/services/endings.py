"""Requests that wait for the end of a job.

What ends in this process is told at once; for what ends in another one the database is looked at, less and less often.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from app.database import Database
from app.models import JOB_OPEN
from app.services import jobs

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between looks; the pause grows by half each time
FIRST_PAUSE_ALONE = 0.2  # for who is told: a job may have ended before its client began to wait


@dataclass(frozen=True)
class Endings:
    """Those that wait in one process."""

    database: Database
    #: whether jobs end in this process only
    alone: bool
    #: set when nothing is to wait any more
    stopping: threading.Event
    _waiting: defaultdict[UUID, set[asyncio.Future[None]]] = field(default_factory=lambda: defaultdict(set))

    async def wait(self, job_id: UUID, seconds: float, *, is_new: bool) -> None:
        """Return when the job has ended, when so many seconds are over, or when this process has to stop.

        Args:
            job_id: of the job.
            seconds: to wait at most.
            is_new: it has just been accepted; any other one may have ended long ago, and is looked at first.
        """
        if not is_new and await self._has_ended(job_id):
            return
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_ALONE if self.alone else FIRST_PAUSE
        with self._told(job_id) as told:
            while (left := deadline - time.monotonic()) > 0 and not self.stopping.is_set():
                if (await asyncio.wait((told,), timeout=min(pause, left)))[0]:
                    return
                if await self._has_ended(job_id):
                    return
                pause = min(pause * 1.5, LONGEST_PAUSE)

    async def _has_ended(self, job_id: UUID) -> bool:
        return await self.database.read(jobs.status_of, job_id) not in JOB_OPEN

    @contextmanager
    def _told(self, job_id: UUID) -> Iterator[asyncio.Future[None]]:
        told = asyncio.get_running_loop().create_future()
        self._waiting[job_id].add(told)
        try:
            yield told
        finally:
            self._waiting[job_id].discard(told)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def tell(self, job_id: UUID) -> None:
        """A job has ended in this process; from any thread."""
        for told in tuple(self._waiting.get(job_id, ())):
            told.get_loop().call_soon_threadsafe(_resolve, told)


def _resolve(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
