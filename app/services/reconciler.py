"""Repairs what a crash, a lost message or a flushed Redis left behind, so that every accepted job ends."""

import logging
import threading
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics
from app.database import Database, from_now
from app.models import JOB_OPEN, STEP_OPEN, Job, Step, StepStatus
from app.services import outbox, steps

log = logging.getLogger(__name__)

BATCH = 100  # jobs or tasks of one kind in one sweep
LOCK = 7_104_221  # any constant: PostgreSQL's advisory lock that lets one process sweep at a time
STRANDED_SECONDS = 10  # a job whose steps have all ended is usually finalized within milliseconds


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What one sweep has set going again."""

    expired: int = 0
    stranded: int = 0
    silent: int = 0


def sweep(session: Session, *, redispatch_seconds: float) -> Repairs:
    """Look for everything that should move and does not.

    Args:
        session: one transaction for all repairs.
        redispatch_seconds: age of the last dispatch after which a job without any running step counts as lost.
    """
    if not _alone(session):
        return Repairs()
    return Repairs(
        expired=_resend_expired(session),
        stranded=_finalize_stranded(session),
        silent=_resend_silent(session, redispatch_seconds),
    )


def _alone(session: Session) -> bool:
    if session.get_bind().dialect.name != "postgresql":
        return True
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}))


def _resend_expired(session: Session) -> int:
    """Tasks whose worker is silent: a copy of the message takes the lease over."""
    expired = steps.expired_leases(session, BATCH)
    for job_id, task in expired:
        log.warning("lease_expired", extra={"job_id": str(job_id), "task": task})
        postponed = update(Step).where(Step.job_id == job_id, Step.task == task, Step.status == StepStatus.RUNNING)
        session.execute(postponed.values(status=StepStatus.PENDING, lease_owner=None, lease_until=None))
        outbox.enqueue(session, outbox.START_JOB, [str(job_id), task])
    return len(expired)


def _open_steps() -> object:
    return select(Step.id).where(Step.job_id == Job.id, Step.status.in_(STEP_OPEN)).exists()


def _finalize_stranded(session: Session) -> int:
    stranded = (
        select(Job.id)
        .where(Job.status.in_(JOB_OPEN), Job.dispatched_at < from_now(-STRANDED_SECONDS), ~_open_steps())  # type: ignore[operator]
        .limit(BATCH)
    )
    found = list(session.scalars(stranded))
    for job_id in found:
        outbox.enqueue(session, outbox.FINALIZE, [str(job_id)])
    return len(found)


def _resend_silent(session: Session, redispatch_seconds: float) -> int:
    running = select(Step.id).where(Step.job_id == Job.id, Step.status == StepStatus.RUNNING).exists()
    silent = (
        select(Job.id)
        .where(Job.status.in_(JOB_OPEN), Job.dispatched_at < from_now(-redispatch_seconds), _open_steps(), ~running)  # type: ignore[arg-type]
        .limit(BATCH)
    )
    return _resend(session, list(session.scalars(silent)))


def _resend(session: Session, job_ids: list[UUID]) -> int:
    for job_id in job_ids:
        log.warning("job_sent_again", extra={"job_id": str(job_id)})
        outbox.enqueue(session, outbox.START_JOB, [str(job_id)])
        session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=from_now()))
    return len(job_ids)


def resume_all(session: Session) -> int:
    """Send every open job again, at the start of a process that is the only one.

    Its predecessor's broker was memory, and its leases are held by nobody.
    """
    abandoned = update(Step).where(Step.status == StepStatus.RUNNING)
    session.execute(abandoned.values(status=StepStatus.PENDING, lease_owner=None, lease_until=None))
    return _resend(session, list(session.scalars(select(Job.id).where(Job.status.in_(JOB_OPEN)))))


class Reconciler:
    """Sweeps again and again, in a thread of its own."""

    def __init__(self, database: Database, *, every_seconds: float, redispatch_seconds: float) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._redispatch_seconds = redispatch_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_seconds):
            try:
                with self._database.session() as session:
                    repairs = sweep(session, redispatch_seconds=self._redispatch_seconds)
                if repairs != Repairs():
                    metrics.count_repairs(repairs.__dict__)
                    log.info("reconciled", extra=repairs.__dict__)
            except SQLAlchemyError as error:
                log.warning("reconciler_database_unavailable", extra={"error": type(error).__name__})
