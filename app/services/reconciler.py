"""Repairs what a crash, a lost message or a flushed Redis left behind, so that every accepted job ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics
from app.database import Database, from_now
from app.models import JOB_OPEN, Job, JobStatus, Step, StepStatus
from app.operations import Queue
from app.services import deliveries, outbox, replays, steps
from app.services.dag_builder import Plan
from app.services.periodic import Periodic

log = logging.getLogger(__name__)

BATCH = 100  # jobs or tasks of one kind in one sweep
LOCK = 7_104_221  # any constant: PostgreSQL's advisory lock that lets one process sweep at a time
IN_FLIGHT = timedelta(seconds=5)  # what a message may take from its transaction to its queue


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What one sweep has set going again."""

    expired: int = 0
    silent: int = 0
    webhooks: int = 0
    replays: int = 0


#: up to when everything that was sent to a queue has been taken; by the queue's name
Reached = dict[str, datetime]
#: messages of a queue that nobody has taken yet; None when the broker does not tell
Waiting = Callable[[str], int | None]


def sweep(session: Session, *, redispatch_seconds: float, waiting: Waiting) -> Repairs:
    """Look for everything that should move and does not.

    Args:
        session: one transaction for all repairs.
        redispatch_seconds: after so long without a sign of life a job may have lost its message.
        waiting: how long a queue is: who stands in a long one has lost nothing.
    """
    if not _alone(session):
        return Repairs()
    reached = cache(partial(_reached, session, waiting))
    return Repairs(
        expired=_resend_expired(session),
        silent=_resend_silent(session, redispatch_seconds, reached),
        webhooks=deliveries.sweep(
            session, redispatch_seconds=redispatch_seconds, is_queue_empty=lambda: waiting(Queue.WEBHOOK.value) == 0
        ),
        replays=replays.sweep(session, redispatch_seconds=redispatch_seconds),
    )


def _alone(session: Session) -> bool:
    if session.get_bind().dialect.name != "postgresql":
        return True
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}))


def _resend_expired(session: Session) -> int:
    """Tasks whose worker is silent: a copy of the message takes the lease over."""
    given_up = [
        (job_id, task)
        for job_id, tasks in steps.expired_leases(session, BATCH).items()
        if _lock_idle(session, job_id)
        for task in tasks
        if steps.give_lease_up(session, job_id, task)
    ]
    for job_id, task in given_up:
        log.warning("lease_expired", extra={"job_id": str(job_id), "task": task})
        outbox.enqueue(session, outbox.START_JOB, [str(job_id), task])
        _note_dispatch(session, job_id)
    return len(given_up)


def _lock_idle(session: Session, job_id: UUID) -> bool:
    """Lock an open job before its steps, as every worker does; False while somebody else has it locked."""
    idle = select(Job.id).where(Job.id == job_id, Job.status.in_(JOB_OPEN)).with_for_update(skip_locked=True)
    return session.scalar(idle) is not None


def _note_dispatch(session: Session, job_id: UUID) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=from_now()))


def _resend_silent(session: Session, redispatch_seconds: float, reached: Callable[[], Reached]) -> int:
    """Jobs whose message is in no queue any more, or was never sent."""
    silent = _silent(redispatch_seconds)
    if session.scalar(silent.with_only_columns(Job.id).limit(1)) is None:
        return 0
    passed = reached().get(Queue.DEFAULT.value)
    if passed is None:
        return 0  # what starts a job is in that queue
    oldest = silent.where(Job.dispatched_at < passed - IN_FLIGHT).order_by(Job.dispatched_at).limit(BATCH)
    found = session.scalars(oldest.with_for_update(skip_locked=True)).all()
    return _resend(session, [job.id for job in found if _is_lost(session, job, reached())])


def _silent(redispatch_seconds: float) -> Select[Job]:
    before = from_now(-redispatch_seconds)
    alive = select(Step.id).where(
        Step.job_id == Job.id, or_(Step.status == StepStatus.RUNNING, Step.finished_at >= before)
    )
    unsent = and_(
        Job.status == JobStatus.PENDING,
        Job.dispatched_at < from_now(-min(redispatch_seconds, outbox.UNSENT_SECONDS)),
    )
    quiet = or_(Job.dispatched_at < before, unsent)
    return select(Job).where(Job.status.in_(JOB_OPEN), quiet, ~alive.exists())


def _reached(session: Session, waiting: Waiting) -> Reached:
    """How far each queue is: what was sent to it before then has been taken.

    A queue keeps its order, so whoever runs now was sent after all who were, and is not older than its job.
    """
    newest = (
        select(Step.queue, func.max(Job.created_at))
        .join(Job, Job.id == Step.job_id)
        .where(Step.status == StepStatus.RUNNING)
        .group_by(Step.queue)
    )
    reached: Reached = dict(session.execute(newest).all())
    now = session.scalars(select(from_now())).one()
    return reached | {queue.value: now for queue in Queue if waiting(queue.value) == 0}


def _has_passed(reached: Reached, queue: str, sent_at: datetime) -> bool:
    return queue in reached and sent_at + IN_FLIGHT < reached[queue]


def _is_lost(session: Session, job: Job, reached: Reached) -> bool:
    plan, ended = Plan.from_json(job.plan), steps.ended_tasks(session, job.id)
    queues = {task.queue for task in plan.tasks if task.id not in ended and (not task.parent or task.parent in ended)}
    # the message that starts the job is in the default queue, those of its tasks are in theirs
    return all(_has_passed(reached, queue, job.dispatched_at) for queue in {Queue.DEFAULT.value, *queues})


def _resend(session: Session, job_ids: list[UUID]) -> int:
    for job_id in job_ids:
        log.warning("job_sent_again", extra={"job_id": str(job_id)})
        outbox.enqueue(session, outbox.START_JOB, [str(job_id)])
        _note_dispatch(session, job_id)
    return len(job_ids)


def resume_all(session: Session) -> int:
    """Send every open job again, at the start of a process that is the only one.

    Its predecessor's broker was memory, and its leases are held by nobody.
    """
    steps.give_all_leases_up(session)
    return _resend(session, list(session.scalars(select(Job.id).where(Job.status.in_(JOB_OPEN)))))


class Reconciler(Periodic):
    """Sweeps again and again."""

    name = "reconciler"
    at_once = True
    unavailable = (SQLAlchemyError,)

    def __init__(
        self, database: Database, waiting: Waiting, *, every_seconds: float, redispatch_seconds: float
    ) -> None:
        super().__init__(every_seconds)
        self._database = database
        self._waiting = waiting
        self._redispatch_seconds = redispatch_seconds

    def run_once(self) -> None:
        """Repair what needs it now."""
        while self._repair().webhooks == deliveries.BATCH and not self.stopping.is_set():
            pass

    def _repair(self) -> Repairs:
        """One transaction."""
        with self._database.session() as session:
            repairs = sweep(session, redispatch_seconds=self._redispatch_seconds, waiting=self._waiting)
        if repairs != Repairs():
            metrics.count_repairs(repairs.__dict__)
            log.info("reconciled", extra=repairs.__dict__)
        return repairs
