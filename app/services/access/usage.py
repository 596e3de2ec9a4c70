"""The usage of tenants: jobs, bytes, pixels and CPU seconds by day, key and template.

The figures are sums over steps, and are added up after the jobs have ended, from the log of events. Each end of a job
is one event, which is numbered after its commit. The transaction that counts events also writes the number of the last
one. So every end counts once, however often the counting process is killed, and the transaction that ends a job locks
no row for which others wait.

A job that is deleted before it was counted is counted by the transaction that deletes it. A job that a client deletes
while it runs has no event, and is counted when it is stopped.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from app.database import insertion, table_of
from app.errors import InvalidCursor
from app.models import Counter, Event, EventType, Job, Step, StepAttempt, UsageDay

COUNTER = "usage"  # the log number of the last event that was counted
BATCH = 500  # events in one transaction
MAX_PAGE = 1000  # rows
USAGE = table_of(UsageDay)


@dataclass(frozen=True, kw_only=True, order=True)
class Account:
    """The columns by which usage is grouped."""

    tenant: str
    day: date
    #: empty: the request came without a key
    key_id: str
    #: empty: the request named no template
    template: str


@dataclass(kw_only=True)
class Figures:
    """The usage of one group."""

    jobs: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    #: sum over all frames
    pixels: int = 0
    cpu_seconds: float = 0.0

    def add(self, other: "Figures") -> None:
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


NAMES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One end of a job; a job that is retried ends again."""

    job_id: UUID
    run: int
    on: date


def aggregate(session: Session) -> int:
    """Count the next events, at most `BATCH`; returns their number, which is 0 while another process is counting."""
    turn = select(Counter).where(Counter.name == COUNTER).with_for_update(skip_locked=True)
    counter = session.scalars(turn).one_or_none()
    if counter is None:
        return 0
    events = select(Event.position, Event.type, Event.job_id, Event.run, Event.created_at)
    following = events.where(Event.position > counter.value).order_by(Event.position).limit(BATCH)
    rows = session.execute(following).all()
    if rows:
        ends = [_ended(row) for row in rows if row.job_id is not None and row.type != EventType.TEST]
        _count(session, ends)
        counter.value = rows[-1].position
    return len(rows)


def _ended(row: Any) -> Ended:
    return Ended(job_id=row.job_id, run=row.run, on=row.created_at.date())


def settle(session: Session, job_ids: Collection[UUID]) -> None:
    """Count those ends of jobs that this transaction deletes which `aggregate` has not counted yet."""
    if not job_ids:
        return
    # the lock makes the counting process wait; after this transaction it does not find these jobs
    last = session.scalars(select(Counter.value).where(Counter.name == COUNTER).with_for_update()).one()
    uncounted = (Event.position.is_(None)) | (Event.position > last)
    events = select(Event.type, Event.job_id, Event.run, Event.created_at).where(Event.job_id.in_(job_ids), uncounted)
    _count(session, [_ended(row) for row in session.execute(events)])


def count_stopped(session: Session, job: Job) -> None:
    """Count a job that this transaction ends without an event."""
    _count(session, [Ended(job_id=job.id, run=job.run, on=datetime.now(UTC).date())])


def _count(session: Session, ends: Iterable[Ended]) -> None:
    """Add the usage of ended jobs; deleted ones were counted by the transaction that deleted them."""
    runs = {(end.job_id, end.run): end for end in ends}
    if not runs:
        return
    ids = {job_id for job_id, _ in runs}
    jobs = {
        row.id: row
        for row in session.execute(select(Job.id, Job.tenant, Job.key_id, Job.template).where(Job.id.in_(ids)))
    }
    used = _used(session, runs)
    sums: dict[Account, Figures] = defaultdict(Figures)
    for (job_id, run), end in runs.items():
        if job := jobs.get(job_id):
            account = Account(tenant=job.tenant, day=end.on, key_id=job.key_id or "", template=job.template or "")
            sums[account].add(used.get((job_id, run), Figures()))
            sums[account].jobs += run == 1
    _add(session, sums)


def _used(session: Session, runs: Collection[tuple[UUID, int]]) -> dict[tuple[UUID, int], Figures]:
    """The usage of successful steps, by job and run; the last step of a task has the figures of all its steps."""
    sums = [func.coalesce(func.sum(getattr(Step, name)), 0) for name in NAMES if name != "jobs"]
    of_task = (Step.job_id == StepAttempt.job_id) & (Step.id == StepAttempt.task)
    query = (
        select(StepAttempt.job_id, StepAttempt.run, *sums)
        .join(Step, of_task)
        .where(StepAttempt.outcome == "succeeded", StepAttempt.job_id.in_({job_id for job_id, _ in runs}))
        .group_by(StepAttempt.job_id, StepAttempt.run)
    )
    return {
        (job_id, run): Figures(
            bytes_in=int(bytes_in), bytes_out=int(bytes_out), pixels=int(pixels), cpu_seconds=float(cpu_seconds)
        )
        for job_id, run, bytes_in, bytes_out, pixels, cpu_seconds in session.execute(query)
    }


def _add(session: Session, sums: Mapping[Account, Figures]) -> None:
    for account, figures in sorted(
        sums.items(), key=lambda item: item[0]
    ):  # the same order in all processes, to avoid deadlocks
        row = insertion(session, UsageDay).values(**account.__dict__, **figures.__dict__)
        more = {name: USAGE.c[name] + row.excluded[name] for name in NAMES}
        session.connection().execute(
            row.on_conflict_do_update(index_elements=[USAGE.c[name] for name in ACCOUNT], set_=more)
        )


ACCOUNT = tuple(field.name for field in fields(Account))


def list_page(
    session: Session, *, tenant: str, since: date, until: date, limit: int, cursor: str | None = None
) -> tuple[list[UsageDay], str | None]:
    """A page of a tenant's usage, oldest first, and the cursor of the next one.

    Args:
        session: the transaction.
        tenant: the tenant.
        since: first day.
        until: last day.
        limit: the most rows of a page.
        cursor: cursor of this page; None: the first page.

    Raises:
        InvalidCursor: the cursor belongs to another listing, or is not a cursor.
    """
    place = (UsageDay.day, UsageDay.key_id, UsageDay.template)
    query = select(UsageDay).where(UsageDay.tenant == tenant, UsageDay.day >= since, UsageDay.day <= until)
    if cursor:
        query = query.where(tuple_(*place) > _read_cursor(cursor))
    rows = list(session.scalars(query.order_by(*place).limit(limit + 1)))
    return rows[:limit], _cursor(rows[limit - 1]) if len(rows) > limit else None


def _cursor(row: UsageDay) -> str:
    text = f"{row.day.isoformat()}\n{row.key_id}\n{row.template}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[date, str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        day, key_id, template = text.split("\n")
        return date.fromisoformat(day), key_id, template
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
