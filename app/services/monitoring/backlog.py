"""The amount of waiting work and its age, from the database, which knows more than any single process."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, case, cast, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.database import from_now
from app.models import (
    JOB_OPEN,
    DeadLetter,
    DeliveryStatus,
    DueTask,
    Job,
    OutboxMessage,
    Step,
    StepStatus,
    WebhookDelivery,
)

OLDEST = 500  # open jobs among which the longest wait is searched
TIMEOUT = "2s"  # limit for each PostgreSQL statement: a scrape must not keep the database busy


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """One measurement of the waiting work."""

    outbox_waiting: int
    outbox_lag_seconds: float
    #: open jobs by status
    open_jobs: dict[str, int]
    #: number of open jobs of the tenant with the most
    tenant_open_jobs: int
    #: by queue: number of tasks that wait for their turn
    due_tasks: dict[str, int]
    #: by queue: longest wait in seconds of a job without a running step
    queue_age_seconds: dict[str, float]
    #: running steps by queue
    steps_running: dict[str, int]
    dead_letters: int
    webhooks_pending: int


def measure(session: Session) -> Backlog:
    """Measure the waiting work, by a few indexed queries, whatever the number of jobs."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT}'"))
    waiting, lag = _outbox(session)
    return Backlog(
        outbox_waiting=waiting,
        outbox_lag_seconds=lag,
        open_jobs=_by(session, Job.status, Job.finished_at.is_(None)),
        tenant_open_jobs=max(_by(session, Job.tenant, Job.finished_at.is_(None)).values(), default=0),
        due_tasks=_by(session, DueTask.queue, DueTask.job_id.is_not(None)),
        queue_age_seconds=_queue_ages(session),
        steps_running=_by(session, Step.queue, Step.status == StepStatus.RUNNING),
        dead_letters=_count(session, DeadLetter.id, DeadLetter.redriven_at.is_(None)),
        webhooks_pending=_count(session, WebhookDelivery.id, WebhookDelivery.status == DeliveryStatus.PENDING),
    )


def _outbox(session: Session) -> tuple[int, float]:
    # A message that could not be sent is due again later, but has waited since it was written
    due = (OutboxMessage.available_at <= from_now()) | (OutboxMessage.attempts > 0)
    since = case((OutboxMessage.attempts > 0, OutboxMessage.created_at), else_=OutboxMessage.available_at)
    waiting, oldest = session.execute(select(func.count(), func.max(_age(session, since))).where(due)).one()
    return waiting, max(0.0, oldest or 0.0)


def _age(session: Session, moment: ColumnElement[Any]) -> ColumnElement[float]:
    """The seconds since a time, by the database's clock."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.extract("epoch", func.clock_timestamp() - moment), Float)
    return (func.julianday("now") - func.julianday(moment, type_=Float)) * 86400.0


def _by(session: Session, column: InstrumentedAttribute[str], condition: ColumnElement[bool]) -> dict[str, int]:
    counted = session.execute(select(column, func.count()).where(condition).group_by(column))
    return {name: number for name, number in counted}  # noqa: C416 - a row is not a pair to mypy


def _count(session: Session, column: InstrumentedAttribute[Any], condition: ColumnElement[bool]) -> int:
    return session.scalars(select(func.count(column)).where(condition)).one()


def _queue_ages(session: Session) -> dict[str, float]:
    oldest = (
        select(Job.id, Job.dispatched_at)
        .where(Job.finished_at.is_(None), Job.status.in_(JOB_OPEN))
        .order_by(Job.dispatched_at)
        .limit(OLDEST)
        .cte("oldest")
    )
    idle = (
        select(oldest.c.id, func.max(func.coalesce(Step.finished_at, oldest.c.dispatched_at)).label("since"))
        .join(Step, Step.job_id == oldest.c.id)
        .group_by(oldest.c.id)
        .having(func.count().filter(Step.status == StepStatus.RUNNING) == 0)
        .cte("idle")
    )
    waits = (
        select(Step.queue, func.max(_age(session, idle.c.since)))
        .join(idle, Step.job_id == idle.c.id)
        .where(Step.status == StepStatus.PENDING)
        .group_by(Step.queue)
    )
    return {queue: max(0.0, age) for queue, age in session.execute(waits)}
