"""Backpressure: new jobs are refused while too many are unfinished, before their upload is read."""

import time
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import TooMuchWork
from app.models import Job

FRESH_SECONDS = 1.0  # a count is reused for so long: counting must not cost more than the requests that it refuses
RETRY_AFTER = 30  # seconds


def open_jobs(session: Session, most: int) -> int:
    """The number of unfinished jobs, counted up to `most`."""
    unfinished = select(Job.id).where(Job.finished_at.is_(None)).limit(most).subquery()
    return session.scalars(select(func.count()).select_from(unfinished)).one()


@dataclass
class Backpressure:
    """The check of one API process for too much unfinished work."""

    database: Database
    limit: int
    _counted_at: float = field(default=float("-inf"))
    _open: int = 0

    async def check(self) -> None:
        """Raise unless a new job may be accepted.

        Raises:
            TooMuchWork: too many jobs are unfinished.
        """
        if time.monotonic() - self._counted_at >= FRESH_SECONDS:
            self._counted_at = time.monotonic()
            self._open = await self.database.read(open_jobs, self.limit)
        if self._open >= self.limit:
            raise TooMuchWork(
                f"There are {self.limit} or more unfinished jobs; please come back later.",
                limit=self.limit,
                value=self._open,
                retry_after=RETRY_AFTER,
            )
