"""Removes what has expired, in batches, and finds what does not belong together."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics
from app.database import Database, from_now
from app.errors import PixToolsError
from app.models import JOB_OPEN, IdempotencyKey, Job, Result
from app.services import jobs
from app.services.s3 import JOBS, ObjectStorage, job_prefix

log = logging.getLogger(__name__)

BATCH = 100  # jobs, or keys
PAGE = 1000  # rows that are compared with the storage at a time


def expired(session: Session) -> list[UUID]:
    """Ended jobs whose time is over, oldest first."""
    query = select(Job.id).where(Job.expires_at < from_now(), Job.status.not_in(JOB_OPEN))
    return list(session.scalars(query.order_by(Job.expires_at).limit(BATCH)))


def remove_expired_keys(session: Session) -> int:
    """Forget a batch of idempotency keys; how many that was."""
    old = select(IdempotencyKey.caller, IdempotencyKey.key).where(IdempotencyKey.expires_at < from_now()).limit(BATCH)
    found = session.execute(old).all()
    for caller, key in found:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.caller == caller, IdempotencyKey.key == key))
    return len(found)


@dataclass(frozen=True)
class Orphans:
    """What lacks its counterpart."""

    #: keys of objects below a job that does not exist
    objects: list[str]
    #: keys of results whose object does not exist
    results: list[str]


def find_orphans(database: Database, storage: ObjectStorage) -> Orphans:
    """Compare every object with the jobs, and every result with the objects.

    An upload that is being accepted has an object before it has a job: look twice before removing anything.
    """
    lost_results: list[str] = []
    known: set[str] = set()
    for rows in _pages(database):
        for job_id in {job_id for job_id, _ in rows}:
            known.update(key for key, _ in storage.entries(job_prefix(job_id)))
        lost_results += [key for _, key in rows if key not in known]
        known.clear()
    return Orphans(objects=list(_unknown_objects(database, storage)), results=lost_results)


def _pages(database: Database) -> Iterator[list[tuple[UUID, str]]]:
    """Job and key of every result, some at a time."""
    after: tuple[UUID, str] | None = None
    while True:
        query = select(Result.job_id, Result.key).order_by(Result.job_id, Result.key).limit(PAGE)
        if after:
            query = query.where((Result.job_id > after[0]) | ((Result.job_id == after[0]) & (Result.key > after[1])))
        with database.session(read_only=True) as session:
            rows = [(job_id, key) for job_id, key in session.execute(query)]
        if not rows:
            return
        yield rows
        after = rows[-1]


def _unknown_objects(database: Database, storage: ObjectStorage) -> Iterator[str]:
    batch: list[str] = []
    for key, _ in storage.entries(JOBS):
        batch.append(key)
        if len(batch) == PAGE:
            yield from _without_job(database, batch)
            batch = []
    yield from _without_job(database, batch)


def _without_job(database: Database, keys: list[str]) -> list[str]:
    owners = {key: _owner(key) for key in keys}
    wanted = {owner for owner in owners.values() if owner}
    with database.session(read_only=True) as session:
        found = set(session.scalars(select(Job.id).where(Job.id.in_(wanted))))
    return [key for key, owner in owners.items() if owner not in found]


def _owner(key: str) -> UUID | None:
    try:
        return UUID(key.removeprefix(JOBS).partition("/")[0])
    except ValueError:
        return None


class Retention:
    """Removes expired jobs again and again, in a thread of its own."""

    def __init__(self, database: Database, storage: ObjectStorage, *, every_seconds: float) -> None:
        self._database = database
        self._storage = storage
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_seconds):
            try:
                self.run_once()
            except (SQLAlchemyError, PixToolsError) as error:
                log.warning("retention_interrupted", extra={"error": type(error).__name__})

    def run_once(self) -> int:
        """Remove all that has expired by now; how many jobs that was."""
        removed = 0
        while not self._stopping.is_set():
            with self._database.session(read_only=True) as session:
                batch = expired(session)
            for job_id in batch:
                self._remove(job_id)
            removed += len(batch)
            if len(batch) < BATCH:
                break
        while not self._stopping.is_set():
            with self._database.session() as session:
                if remove_expired_keys(session) < BATCH:
                    break
        if removed:
            metrics.EXPIRED_JOBS.inc(removed)
            log.info("expired_jobs_removed", extra={"jobs": removed})
        return removed

    def _remove(self, job_id: UUID) -> None:
        # The objects first: a job without them can be removed again, objects without a job nobody would look for
        asyncio.run(self._storage.delete_prefix(job_prefix(job_id)))
        with self._database.session() as session:
            jobs.remove(session, job_id)
