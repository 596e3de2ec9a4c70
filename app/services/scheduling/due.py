"""Work that waits for its turn in the database, and the order of turns.

The broker's queues are first in, first out, so nothing can overtake a message in them. Therefore only a small window of
the work is in the broker. The rest are rows, among which the process that fills the window takes turns: between
tenants, within a tenant by priority, and between jobs of equal priority. The one served longest ago comes first. The
times are stored with the rows, so that a window of one place is as fair as one of a hundred.

A row is claimed, sent, and then deleted. A process that dies in between leaves a claim behind, which expires, and the
work may be sent twice; every task tolerates that.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.database import after_commit, from_now, hooks_of, insertion, table_of
from app.locks import AdvisoryLock, take
from app.models import JOB_OPEN, DueTask, Job, TenantTurn
from app.operations import Queue
from app.services.dag_builder import Plan, PlannedTask
from app.services.outbox import SENDING_SECONDS, START_JOB, Message, start_args, wake_relays
from app.services.scheduling.effort import is_small, size_of

WHOLE = ""  # stands for all remaining tasks of a job where a row has a task's id


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A queue of the broker, with the due work that may go there."""

    queue: Queue
    #: the queue that its rows name
    of: Queue
    small_only: bool = False


LANES = (
    Lane(queue=Queue.SMALL, of=Queue.DEFAULT, small_only=True),
    Lane(queue=Queue.DEFAULT, of=Queue.DEFAULT),
    Lane(queue=Queue.ML, of=Queue.ML),
    Lane(queue=Queue.FETCH, of=Queue.FETCH),
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A row of due work whose turn it is."""

    job_id: UUID
    task: str
    tenant: str
    #: Celery's name of the task
    name: str
    context: dict[str, str] | None
    #: False: the job has ended meanwhile
    wanted: bool

    @property
    def key(self) -> tuple[UUID, str]:
        return self.job_id, self.task

    def message(self, queue: str) -> Message:
        """The message for a queue; one that starts a tree goes to the default queue instead, and names this one."""
        if self.name == START_JOB:
            args = start_args(self.job_id, self.task or None, small=queue == Queue.SMALL.value)
            return Message(task=self.name, args=args, queue=Queue.DEFAULT.value, context=self.context)
        return Message(task=self.name, args=[str(self.job_id), self.task], queue=queue, context=self.context)


def add_job(session: Session, job: Job, plan: Plan) -> None:
    """Add a new job to the due work."""
    if len(plan.tasks) == 1 or plan.fetches or plan.is_wide(None):
        add_tasks(session, job, plan, plan.ready(()))
        return
    first = plan.tasks[0]
    small = all(is_small(plan, task, size_of(job)) for task in plan.ready(()))
    _add(session, [{**_row(job, plan, first), "task": WHOLE, "name": START_JOB, "small": small}])


def add_tasks(session: Session, job: Job, plan: Plan, tasks: Sequence[PlannedTask]) -> None:
    """Add tasks of a job to the due work; those that already wait keep their places."""
    _add(session, [{**_row(job, plan, task), "position": number} for number, task in enumerate(tasks)])


def add_rest(session: Session, *conditions: ColumnElement[bool]) -> int:
    """Add the rest of all open jobs that meet the conditions, by one statement; returns the number of jobs."""
    values: dict[str, Any] = {
        "job_id": Job.id,
        "task": literal(WHOLE),
        "queue": literal(Queue.DEFAULT.value),
        "small": literal(False),
        "tenant": Job.tenant,
        "priority": Job.priority,
        "position": literal(0),
        "name": literal(START_JOB),
        "served_at": Job.dispatched_at,
    }
    rest = select(*values.values()).where(Job.status.in_(JOB_OPEN), *conditions)
    added = (
        insertion(session, DueTask).from_select(list(values), rest).on_conflict_do_nothing().returning(DueTask.job_id)
    )
    found = len(session.execute(added).all())
    _announce(session, {Queue.DEFAULT.value})
    return found


def forget_all(session: Session) -> None:
    """Delete all rows, at the start of the only process, which then resumes all jobs."""
    session.execute(delete(DueTask))


def _row(job: Job, plan: Plan, task: PlannedTask) -> dict[str, Any]:
    follows = plan.children(task.id) and not plan.is_wide(task.id)
    return {
        "job_id": job.id,
        "task": task.id,
        "queue": task.queue,
        "small": is_small(plan, task, size_of(job)),
        "tenant": job.tenant,
        "priority": job.priority,
        "position": 0,
        "name": START_JOB if follows else task.name,
        "served_at": job.dispatched_at,
    }


def _add(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    # rows as parameters: a statement that contains them would be compiled each time
    session.connection().execute(insertion(session, DueTask).on_conflict_do_nothing(), rows)
    small = {Queue.SMALL.value} if any(row["small"] for row in rows) else set()
    _announce(session, {row["queue"] for row in rows} | small)


def _announce(session: Session, queues: Collection[str]) -> None:
    """Notify the dispatcher of this process, or if it has none, those of all processes."""
    if window := hooks_of(session).window:
        after_commit(session, partial(window.note_due, queues))
    else:
        wake_relays(session)


def waiting(session: Session) -> dict[str, int]:
    """The number of waiting rows by queue; small work counts for both queues to which it may go."""
    counted = select(DueTask.queue, DueTask.small, func.count()).group_by(DueTask.queue, DueTask.small)
    found: Counter[str] = Counter()
    for queue, small, number in session.execute(counted):
        found.update({queue: number, Queue.SMALL.value: number if small else 0})
    return +found


def of_job() -> ColumnElement[bool]:
    """A condition that some work of the outer query's job is waiting."""
    return select(DueTask.job_id).where(DueTask.job_id == Job.id).exists()


def may_choose(session: Session) -> bool:
    """Take the lock for choosing work, until the end of the transaction; returns False if another process has it."""
    return take(session, AdvisoryLock.TURNS)


def claim(session: Session, lane: Lane, room: int) -> list[Turn]:
    """Claim the next rows, in the order of their turns.

    Args:
        session: one transaction, in which `may_choose` was true.
        lane: the lane of the work.
        room: most rows, including those that are already being sent.
    """
    now = session.scalars(select(from_now())).one()
    turns = list(_chosen(session, lane, room - _on_their_way(session, lane)))
    if turns:
        claimed = update(DueTask).where(tuple_(DueTask.job_id, DueTask.task).in_([turn.key for turn in turns]))
        values = {"lane": lane.queue.value, "claimed_until": from_now(SENDING_SECONDS)}
        session.execute(claimed.values(values).execution_options(synchronize_session=False))
        _note_turns(session, turns, now)
    return turns


def take_out(session: Session, lane: Lane, room: int) -> list[Turn]:
    """Delete and return the next rows; for a single process.

    Args:
        session: one transaction.
        lane: the lane of the work.
        room: most rows.
    """
    turns = list(_chosen(session, lane, room))
    if turns:
        settle(session, turns)
        _note_turns(session, turns, session.scalars(select(from_now())).one())
    return turns


def _unclaimed() -> ColumnElement[bool]:
    return or_(DueTask.claimed_until.is_(None), DueTask.claimed_until < from_now())


def _on_their_way(session: Session, lane: Lane) -> int:
    sending = (DueTask.lane == lane.queue.value, DueTask.claimed_until >= from_now())
    return session.scalars(select(func.count()).select_from(DueTask).where(*sending)).one()


def _chosen(session: Session, lane: Lane, room: int) -> Iterator[Turn]:
    if room <= 0:
        return
    order = _order(lane).limit(room).subquery()
    ended = Job.status.not_in(JOB_OPEN)
    columns = (order.c.job_id, order.c.task, order.c.tenant, order.c.name, Job.context, ended.label("ended"))
    chosen = select(*columns).join(Job, Job.id == order.c.job_id).order_by(*_round_robin(order.c))
    for row in session.execute(chosen):
        yield Turn(
            job_id=row.job_id,
            task=row.task,
            tenant=row.tenant,
            name=row.name,
            context=row.context,
            wanted=not row.ended,
        )


def _order(lane: Lane) -> Select[Any]:
    """All rows that may go to a lane, in the order of turns."""
    of_lane = [DueTask.queue == lane.of.value, _unclaimed()]
    if lane.small_only:
        of_lane.append(DueTask.small.is_(True))
    # the n-th task of its job ...
    nth = func.row_number().over(partition_by=DueTask.job_id, order_by=(DueTask.position, DueTask.task))
    tasks = select(DueTask, nth.label("nth")).where(*of_lane).subquery()
    # ... and the n-th turn of its tenant
    order = (tasks.c.priority.desc(), tasks.c.nth, tasks.c.served_at, tasks.c.job_id)
    turn = func.row_number().over(partition_by=tasks.c.tenant, order_by=order)
    turns = select(tasks, turn.label("turn"), TenantTurn.served_at.label("tenant_served_at"))
    found = turns.outerjoin(TenantTurn, TenantTurn.tenant == tasks.c.tenant).subquery()
    return select(found).order_by(*_round_robin(found.c))


def _round_robin(columns: Any) -> tuple[ColumnElement[Any], ...]:
    longest_ago = columns.tenant_served_at.asc().nulls_first()
    return columns.turn, longest_ago, columns.served_at, columns.job_id


def _note_turns(session: Session, turns: Sequence[Turn], now: datetime) -> None:
    # distinct times: within a batch, too, the last one was served last
    times = [now + timedelta(microseconds=number) for number in range(len(turns))]
    jobs = {turn.job_id: at for turn, at in zip(turns, times, strict=True)}
    served = update(table_of(DueTask)).where(DueTask.job_id == bindparam("of_job")).values(served_at=bindparam("at"))
    session.connection().execute(served, [{"of_job": job_id, "at": at} for job_id, at in jobs.items()])
    tenants = {turn.tenant: at for turn, at in zip(turns, times, strict=True)}
    session.execute(delete(TenantTurn).where(TenantTurn.tenant.in_(tenants)))
    session.execute(insert(TenantTurn), [{"tenant": tenant, "served_at": at} for tenant, at in tenants.items()])


def settle(session: Session, sent: Sequence[Turn]) -> None:
    """Delete the rows of work that the broker has accepted, and record the time in their jobs."""
    # Jobs are locked before their rows, as everywhere. A job that is locked now is being worked on, so needs no note
    idle = select(Job.id).where(Job.id.in_({turn.job_id for turn in sent})).order_by(Job.id)
    found = list(session.scalars(idle.with_for_update(skip_locked=True)))
    noted = update(Job).where(Job.id.in_(found)).values(dispatched_at=from_now())
    session.execute(noted.execution_options(synchronize_session=False))
    rows = delete(DueTask).where(tuple_(DueTask.job_id, DueTask.task).in_([turn.key for turn in sent]))
    session.execute(rows.execution_options(synchronize_session=False))


def release(session: Session, unsent: Sequence[Turn]) -> None:
    """Release the claims on work that the broker has not accepted."""
    rows = update(DueTask).where(tuple_(DueTask.job_id, DueTask.task).in_([turn.key for turn in unsent]))
    session.execute(rows.values(lane=None, claimed_until=None).execution_options(synchronize_session=False))
