"""Repairs the effects of crashes, lost messages and a flushed Redis, so that every accepted job ends."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import islice
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics
from app.database import Database, from_now
from app.locks import AdvisoryLock, take
from app.models import JOB_OPEN, STEP_OPEN, Job, JobStatus, Step, StepStatus
from app.operations import Queue
from app.services import outbox, steps
from app.services.dag_builder import Plan
from app.services.scheduling import due
from app.services.scheduling.effort import is_small, size_of
from app.services.upkeep.periodic import Periodic
from app.services.webhooks import deliveries, replays

log = logging.getLogger(__name__)

BATCH = 100  # jobs or tasks of one kind in one sweep
DEFAULT = Queue.DEFAULT.value  # the queue of messages that start jobs
FEW = 16  # length of the small queue up to which its messages are taken within seconds
IN_FLIGHT = timedelta(seconds=5)  # longest time of a message from its transaction to its queue


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """The amounts of work that a sweep has restarted."""

    expired: int = 0
    silent: int = 0
    webhooks: int = 0
    replays: int = 0


#: by queue: time of sending before which all its messages have been received
Reached = dict[str, datetime]
#: counts the messages of a queue that are not taken yet; None when the broker does not answer
Waiting = Callable[[str], int | None]


def sweep(session: Session, *, redispatch_seconds: float, waiting: Waiting) -> Repairs:
    """Find work that is stuck, and send it again.

    Args:
        session: one transaction for all repairs.
        redispatch_seconds: seconds without activity after which the message of a job may be lost.
        waiting: returns the length of a queue, since a task that waits in a long queue is not lost.
    """
    if not take(session, AdvisoryLock.SWEEP):
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


def _resend_expired(session: Session) -> int:
    """Resend tasks whose worker is silent; the copy of the message takes over the lease."""
    given_up = [
        (job_id, task)
        for job_id, tasks in steps.expired_leases(session, BATCH).items()
        if _lock_idle(session, job_id)
        for task in tasks
        if steps.give_lease_up(session, job_id, task)
    ]
    for job_id, task in given_up:
        log.warning("lease_expired", extra={"job_id": str(job_id), "task": task})
        outbox.enqueue(session, outbox.START_JOB, outbox.start_args(job_id, task))
        _note_dispatch(session, job_id)
    return len(given_up)


def _lock_idle(session: Session, job_id: UUID) -> bool:
    """Lock an open job before its steps, as workers do; returns False if another process has locked it."""
    idle = select(Job.id).where(Job.id == job_id, Job.status.in_(JOB_OPEN)).with_for_update(skip_locked=True)
    return session.scalar(idle) is not None


def _note_dispatch(session: Session, job_id: UUID) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=from_now()))


def _resend_silent(session: Session, redispatch_seconds: float, reached: Callable[[], Reached]) -> int:
    """Resend jobs whose message is no longer in a queue, or was never sent."""
    silent = _silent(redispatch_seconds)
    if session.scalar(silent.with_only_columns(Job.id).limit(1)) is None:
        return 0
    passed = reached().get(DEFAULT)
    if passed is None:
        return 0
    passed_over = (Job.dispatched_at < passed - IN_FLIGHT, _may_be_lost(reached()))
    oldest = silent.with_only_columns(Job.id).where(*passed_over).order_by(Job.dispatched_at)
    lost = list(islice(_lost(session, session.scalars(oldest).all(), reached()), BATCH))
    still = silent.with_only_columns(Job.id).where(Job.id.in_(lost)).with_for_update(skip_locked=True)
    return _resend(session, list(session.scalars(still.order_by(Job.dispatched_at))))


def _may_be_lost(reached: Reached) -> ColumnElement[bool]:
    """A condition that excludes jobs whose open steps all wait in queues; these are most jobs if a queue is long."""
    open_steps = select(Step.id).where(Step.job_id == Job.id, Step.status.in_(STEP_OPEN))
    passed = [and_(Step.queue == queue, Job.dispatched_at < until - IN_FLIGHT) for queue, until in reached.items()]
    return or_(~open_steps.exists(), open_steps.where(or_(*passed)).exists())


def _lost(session: Session, silent: Sequence[UUID], reached: Reached) -> Iterator[UUID]:
    """The ids of those jobs that wait in no queue. The others are skipped without a lock, however many they are."""
    kept = outbox.subjects(session)  # their messages wait in the outbox
    for first in range(0, len(silent), BATCH):
        ids = silent[first : first + BATCH]
        facts = (Job.id, Job.plan, Job.dispatched_at, Job.dispatched_at != Job.created_at)
        batch = select(*facts).where(Job.id.in_(ids)).order_by(Job.dispatched_at)
        ended = steps.ended_tasks_of(session, ids)
        for job_id, plan_, sent_at, sent_again in session.execute(batch).all():
            plan = Plan.from_json(plan_)
            # Until then only the message that starts the job can be lost; for some jobs that is the message of a task
            begun = sent_again or len(plan.tasks) == 1 or plan.fetches
            queues = _queues(plan, ended[job_id]) if begun else set()
            if str(job_id) not in kept and all(_has_passed(reached, queue, sent_at) for queue in {DEFAULT, *queues}):
                yield job_id


def _silent(redispatch_seconds: float) -> Select[Job]:
    before = from_now(-redispatch_seconds)
    alive = select(Step.id).where(
        Step.job_id == Job.id, or_(Step.status == StepStatus.RUNNING, Step.finished_at >= before)
    )
    # a repeated job too: its steps that ended a while ago belong to the run before
    unsent = and_(
        Job.status == JobStatus.PENDING,
        Job.dispatched_at < from_now(-min(redispatch_seconds, outbox.UNSENT_SECONDS)),
    )
    quiet = and_(Job.dispatched_at < before, ~alive.exists())
    return select(Job).where(Job.status.in_(JOB_OPEN), or_(quiet, unsent), ~due.of_job())


def _reached(session: Session, waiting: Waiting) -> Reached:
    """The progress of each queue: all messages that were sent to it before this time have been received.

    A queue keeps its order, so all messages sent before that of a running step have been received, and no step is older
    than its job. Small steps are ignored, since they may have come from another queue.
    """
    reached: Reached = {}
    running = select(Job, Step.task, Step.queue).join(Step, Step.job_id == Job.id).order_by(Job.created_at)
    for job, task_id, queue in session.execute(running.where(Step.status == StepStatus.RUNNING)):
        plan = Plan.from_json(job.plan)
        if not is_small(plan, plan.task(task_id), size_of(job)):
            reached[queue] = job.created_at
    now = session.scalars(select(from_now())).one()
    reached |= {queue.value: now for queue in Queue if waiting(queue.value) == 0}
    if (waiting(Queue.SMALL.value) or 0) > FEW:
        reached.pop(DEFAULT, None)  # messages that start jobs and small tasks may wait there instead
    return reached


def _has_passed(reached: Reached, queue: str, sent_at: datetime) -> bool:
    return queue in reached and sent_at + IN_FLIGHT < reached[queue]


def _queues(plan: Plan, ended: set[str]) -> set[str]:
    """The queues of the tasks that could run now."""
    return {task.queue for task in plan.tasks if task.id not in ended and (not task.parent or task.parent in ended)}


def _resend(session: Session, job_ids: list[UUID]) -> int:
    for job_id in job_ids:
        log.warning("job_sent_again", extra={"job_id": str(job_id)})
        outbox.enqueue(session, outbox.START_JOB, outbox.start_args(job_id))
        _note_dispatch(session, job_id)
    return len(job_ids)


def resume_all(session: Session) -> int:
    """Make all open jobs due again, at the start of the only process.

    The broker of the previous process was in memory, and the holders of all leases have ended.
    """
    steps.give_all_leases_up(session)
    due.forget_all(session)
    return due.add_rest(session)


class Reconciler(Periodic):
    """Repairs stuck work periodically."""

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
        """Repair all stuck work."""
        while self._repair().webhooks == deliveries.BATCH and not self.stopping.is_set():
            pass

    def _repair(self) -> Repairs:
        """Sweep once, in one transaction."""
        with self._database.session() as session:
            repairs = sweep(session, redispatch_seconds=self._redispatch_seconds, waiting=self._waiting)
        if repairs != Repairs():
            metrics.count_repairs(repairs.__dict__)
            log.info("reconciled", extra=repairs.__dict__)
        return repairs
