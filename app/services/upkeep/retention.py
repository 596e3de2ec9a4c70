"""Removes expired rows and objects, in batches, and finds objects without rows and rows without objects."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics
from app.backoff import Backoff
from app.database import Database, from_now, insert_rows, rows_changed
from app.errors import PixToolsError
from app.models import JOB_OPEN, DeadLetter, IdempotencyKey, Job, JobTombstone, Result
from app.services.access import audit, usage
from app.services.storage.keys import HEALTH, JOBS, job_prefix
from app.services.storage.object_store import ObjectStore
from app.services.upkeep.periodic import Periodic
from app.services.upkeep.unused_assets import remove_unused_assets
from app.services.webhooks import events, replays

log = logging.getLogger(__name__)

BATCH = 50  # rows of one kind in one transaction
PARALLEL = 8  # jobs whose objects are deleted at the same time
PAGE = 1000  # jobs or objects that are compared at a time
PAUSES = Backoff(first=60.0, longest=3600.0)  # between attempts to delete the objects of a job
YOUNG_SECONDS = 3600  # age below which an object without a job is kept: an upload stores its object before its job


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The outcome of the removal of a batch of expired jobs."""

    removed: list[UUID]
    #: jobs whose objects could not be deleted; they stay until the objects can be
    kept: dict[UUID, PixToolsError]

    @property
    def is_last(self) -> bool:
        """True if no more can be removed now: no expired jobs are left, or the storage cannot delete objects."""
        return len(self.removed) + len(self.kept) < BATCH or not self.removed


def remove_expired_jobs(session: Session, storage: ObjectStore, passed_over: Sequence[UUID] = ()) -> Removal:
    """Remove a batch of expired jobs, oldest first.

    The jobs stay locked while their objects are deleted, so that no retry by a client starts in between.
    """
    query = select(Job.id, Job.tenant, Job.expires_at).where(
        Job.expires_at < from_now(), Job.status.not_in(JOB_OPEN), Job.id.not_in(passed_over)
    )
    rows = session.execute(query.order_by(Job.expires_at).limit(BATCH).with_for_update(skip_locked=True)).all()
    found = [row.id for row in rows]
    # The objects first: a job without objects can be removed later, but objects without a job would not be found
    kept = asyncio.run(_delete_objects(storage, found)) if found else {}
    removed = [job_id for job_id in found if job_id not in kept]
    usage.settle(session, removed)
    insert_rows(session, [_tombstone(row) for row in rows if row.id not in kept])
    session.execute(delete(Job).where(Job.id.in_(removed)))
    return Removal(removed=removed, kept=kept)


def _tombstone(row: Any) -> JobTombstone:
    return JobTombstone(job_id=row.id, tenant=row.tenant, expired_at=row.expires_at)


async def _delete_objects(storage: ObjectStore, job_ids: list[UUID]) -> dict[UUID, PixToolsError]:
    """Delete the objects of these jobs; returns the jobs of which objects are left, with the errors."""
    slots = asyncio.Semaphore(PARALLEL)
    kept: dict[UUID, PixToolsError] = {}

    async def delete_one(job_id: UUID) -> None:
        async with slots:
            try:
                await storage.delete_prefix(job_prefix(job_id))
            except PixToolsError as error:
                kept[job_id] = error

    await asyncio.gather(*map(delete_one, job_ids))
    return kept


@dataclass
class Postponed:
    """Jobs whose objects could not be deleted; each is skipped for a while, which doubles every time."""

    #: by job: end of its pause on the monotonic clock, and the number of failures
    _until: dict[UUID, tuple[float, int]] = field(default_factory=dict)

    def current(self) -> list[UUID]:
        now = time.monotonic()
        return [job_id for job_id, (until, _) in self._until.items() if until > now]

    def note(self, removal: Removal) -> None:
        for job_id in removal.removed:
            self._until.pop(job_id, None)
        for job_id in removal.kept:
            _, failures = self._until.get(job_id, (0.0, 0))
            self._until[job_id] = (time.monotonic() + PAUSES.pause(failures + 1), failures + 1)


def remove_expired_keys(session: Session) -> int:
    """Delete a batch of expired idempotency keys; returns their number."""
    key = tuple_(IdempotencyKey.tenant, IdempotencyKey.key)
    old = select(IdempotencyKey.tenant, IdempotencyKey.key).where(IdempotencyKey.expires_at < from_now()).limit(BATCH)
    return rows_changed(session, delete(IdempotencyKey).where(key.in_(old)))


def remove_old_letters(session: Session, kept_seconds: float) -> int:
    """Delete a batch of dead letters that are too old; returns their number."""
    old = select(DeadLetter.id).where(DeadLetter.created_at < from_now(-kept_seconds)).limit(BATCH)
    return rows_changed(session, delete(DeadLetter).where(DeadLetter.id.in_(old)))


def remove_old_tombstones(session: Session, kept_seconds: float) -> int:
    """Delete a batch of tombstones of jobs that expired long ago; returns their number."""
    old = select(JobTombstone.job_id).where(JobTombstone.expired_at < from_now(-kept_seconds)).limit(BATCH)
    return rows_changed(session, delete(JobTombstone).where(JobTombstone.job_id.in_(old)))


@dataclass(frozen=True)
class Orphans:
    """Objects without rows, and rows without objects."""

    #: keys of objects below a job that does not exist
    objects: list[str]
    #: keys of uploads and results whose object does not exist
    rows: list[str]


def find_orphans(database: Database, storage: ObjectStore) -> Orphans:
    """Find objects without a job, and uploads and results without an object.

    Young objects are skipped, since an upload is stored before its job is written.
    """
    lost: list[str] = []
    for job_ids in _pages(database):
        named = _named(database, job_ids)  # read first: an object is written before its row, and deleted before it
        stored = {key for job_id in job_ids for key, _ in storage.entries(job_prefix(job_id))}
        if missing := [key for key in named if key not in stored]:
            still_named = set(_named(database, job_ids))
            lost += [key for key in missing if key in still_named]
    return Orphans(objects=list(_unknown_objects(database, storage)), rows=lost)


def _pages(database: Database) -> Iterator[list[UUID]]:
    """The ids of all jobs, a page at a time."""
    query = select(Job.id).order_by(Job.id).limit(PAGE)
    after: UUID | None = None
    while True:
        with database.session(read_only=True) as session:
            page = list(session.scalars(query if after is None else query.where(Job.id > after)))
        if not page:
            return
        yield page
        after = page[-1]


def _named(database: Database, job_ids: list[UUID]) -> list[str]:
    """The keys of objects that these jobs should have according to the database."""
    with database.session(read_only=True) as session:
        arrived = (Job.id.in_(job_ids), Job.input_sha256.is_not(None))
        uploads = session.scalars(select(Job.input_key).where(*arrived).order_by(Job.id))
        results = session.scalars(select(Result.key).where(Result.job_id.in_(job_ids)).order_by(Result.key))
        return [*uploads, *results]


def _unknown_objects(database: Database, storage: ObjectStore) -> Iterator[str]:
    batch: list[str] = []
    for key in (key for key, _ in storage.entries(JOBS) if key != HEALTH):
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
    return [key for key, owner in owners.items() if owner not in found and not _is_young(owner)]


def _owner(key: str) -> UUID | None:
    try:
        return UUID(key.removeprefix(JOBS).partition("/")[0])
    except ValueError:
        return None


def _is_young(job_id: UUID | None) -> bool:
    """Whether a job with this id may still be written; a UUIDv7 begins with the milliseconds since 1970."""
    return job_id is not None and job_id.version == 7 and job_id.int >> 80 > (time.time() - YOUNG_SECONDS) * 1000


class Retention(Periodic):
    """Removes expired rows and objects periodically."""

    name = "retention"
    unavailable = (SQLAlchemyError, PixToolsError)

    def __init__(
        self,
        database: Database,
        storage: ObjectStore,
        *,
        every_seconds: float,
        letters_kept_seconds: float,
        events_kept_seconds: float,
        audit_kept_seconds: float,
        tombstones_kept_seconds: float = 30 * 86_400,
    ) -> None:
        super().__init__(every_seconds)
        self._database = database
        self._storage = storage
        self._letters_kept_seconds = letters_kept_seconds
        self._events_kept_seconds = events_kept_seconds
        self._audit_kept_seconds = audit_kept_seconds
        self._tombstones_kept_seconds = tombstones_kept_seconds
        self._postponed = Postponed()

    def run_once(self) -> int:
        """Remove everything that has expired; returns the number of jobs."""
        removed = self._remove_jobs()
        self._in_batches(remove_expired_keys)
        self._in_batches(partial(remove_old_tombstones, kept_seconds=self._tombstones_kept_seconds))
        self._in_batches(partial(remove_unused_assets, storage=self._storage))
        self._in_batches(partial(remove_old_letters, kept_seconds=self._letters_kept_seconds))
        self._in_batches(events.Expiry(self._events_kept_seconds))
        self._in_batches(partial(replays.remove_old, kept_seconds=self._events_kept_seconds))
        self._in_batches(partial(audit.remove_old, kept_seconds=self._audit_kept_seconds))
        if removed:
            metrics.EXPIRED_JOBS.inc(removed)
            log.info("expired_jobs_removed", extra={"jobs": removed})
        return removed

    def _remove_jobs(self) -> int:
        """Remove expired jobs, each batch in its own transaction; a job that cannot be removed delays no others."""
        removed = 0
        while not self.stopping.is_set():
            with self._database.session() as session:
                removal = remove_expired_jobs(session, self._storage, self._postponed.current())
            self._postponed.note(removal)
            removed += len(removal.removed)
            for job_id, error in removal.kept.items():
                metrics.RETENTION_FAILURES.inc()
                log.warning("expired_job_kept", extra={"job_id": str(job_id), "error": error.code})
            if removal.is_last:
                break
        return removed

    def _in_batches(self, remove: Callable[[Session], int]) -> int:
        """Repeat a removal until nothing is left, each batch in its own transaction."""
        removed = 0
        while not self.stopping.is_set():
            with self._database.session() as session:
                count = remove(session)
            removed += count
            if count < BATCH:
                break
        return removed
