"""Dead letters: tasks that were given up, kept until an operator deals with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from app.database import from_now, rows_changed, table_of
from app.errors import (
    InvalidCursor,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    KnownPoison,
    LetterNotFound,
    NothingToRetry,
    PoisonInput,
)
from app.models import DeadLetter, Job
from app.services import jobs, outbox, steps
from app.services.dag_builder import Plan, PlannedTask
from app.tenancy import DEFAULT_TENANT

POISON = "poison_input"
MAX_PAGE = 100  # letters
LETTER_ID = r"[!-~]{1,64}"
#: a query for every upload, so it is built once and without the ORM, which would cost more than the database
LETTERS = table_of(DeadLetter)
KNOWN = select(LETTERS.c.operations).where(
    LETTERS.c.input_sha256 == bindparam("sha256"),
    LETTERS.c.tenant == bindparam("tenant"),
    LETTERS.c.reason == POISON,
    LETTERS.c.redriven_at.is_(None),
)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message that arrived in the dead letter queue."""

    #: id of the message
    id: str
    reason: str
    queue: str
    task: str
    args: list[Any]


def receive(session: Session, letter: Letter) -> None:
    """Store a letter and end its task, so that the job ends too. A second copy of a letter has no effect."""
    if session.get(DeadLetter, letter.id) is not None:
        return
    job_id, task_id = _address(letter.args)
    job = session.get(Job, job_id) if job_id else None
    planned = _planned(job, task_id) if job and task_id else None
    session.add(
        DeadLetter(
            **letter.__dict__,
            tenant=job.tenant if job else DEFAULT_TENANT,
            created_at=from_now(),
            job_id=job_id,
            job_task=task_id,
            input_sha256=job.input_sha256 if job and planned else None,
            operations=_operations(planned) if planned else [],
            message=_message(letter),
        )
    )
    if job_id and planned:
        error = PoisonInput(f"The broker gave the task up: {letter.reason}.")
        steps.give_up(session, job_id, planned.id, error)


def _address(args: Sequence[Any]) -> tuple[UUID | None, str | None]:
    """The job and the planned task of a message."""
    try:
        return UUID(str(args[0])), str(args[1]) if len(args) > 1 and args[1] is not None else None
    except (ValueError, IndexError):
        return None, None


def _planned(job: Job, task_id: str) -> PlannedTask | None:
    return next((task for task in Plan.from_json(job.plan).tasks if task.id == task_id), None)


def _operations(task: PlannedTask) -> list[str]:
    return [step.op for step in task.steps]


def _message(letter: Letter) -> str:
    if letter.reason == POISON:
        return "Every attempt ended the process that worked on it."
    return f"RabbitMQ gave the message up: {letter.reason}."


def refuse_known(session: Session, sha256: str, plan: Plan, tenant: str) -> None:
    """Refuse an upload that has crashed every worker that ran these operations on it.

    Crashes by uploads of other tenants do not count, since a refusal would reveal these uploads.

    Raises:
        KnownPoison: the error names the dead letter, so that an operator can redrive it.
    """
    for (operations,) in session.connection().execute(KNOWN, {"sha256": sha256, "tenant": tenant}):
        if any(_operations(task) == operations for task in plan.tasks):
            names = ", ".join(operations)
            raise KnownPoison(f"This file has crashed every worker that ran {names} on it.", pointer="#/file")


def newest(session: Session, limit: int) -> list[DeadLetter]:
    """The letters that have not been redriven, newest first."""
    query = select(DeadLetter).where(DeadLetter.redriven_at.is_(None)).order_by(DeadLetter.created_at.desc())
    return list(session.scalars(query.limit(limit)))


def page(session: Session, *, limit: int, cursor: str | None = None) -> tuple[list[DeadLetter], str | None]:
    """A page of the letters that have not been redriven, newest first, and the cursor of the next one.

    Raises:
        InvalidCursor: the letter of the cursor no longer exists.
    """
    query = select(DeadLetter).where(DeadLetter.redriven_at.is_(None))
    if cursor:
        last = _found(session, cursor)
        if last is None:
            raise InvalidCursor
        older = (DeadLetter.created_at < last.created_at) | (
            (DeadLetter.created_at == last.created_at) & (DeadLetter.id < last.id)
        )
        query = query.where(older)
    found = list(session.scalars(query.order_by(DeadLetter.created_at.desc(), DeadLetter.id.desc()).limit(limit + 1)))
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def redrive_by_id(session: Session, letter_id: str, *, kept_seconds: int) -> str:
    """Redrive the letter with an id, see `redrive`.

    Raises:
        LetterNotFound: no letter has this id.
        JobNotFinished: see `redrive`.
    """
    letter = _found(session, letter_id)
    if letter is None:
        raise LetterNotFound(f"There is no dead letter {letter_id!r}.")
    return redrive(session, letter, kept_seconds=kept_seconds)


def _found(session: Session, letter_id: str) -> DeadLetter | None:
    """A letter of the session's tenant by its id; unlike `get`, the query is restricted to the tenant."""
    if not re.fullmatch(LETTER_ID, letter_id):
        return None
    return session.scalar(select(DeadLetter).where(DeadLetter.id == letter_id))


def find(session: Session, letter_id: str) -> DeadLetter | None:
    return session.get(DeadLetter, letter_id)


def redrive(session: Session, letter: DeadLetter, *, kept_seconds: int) -> str:
    """Have the work of a letter done again; returns a description of the outcome.

    The job repeats its failed steps. If the job no longer exists, its upload is merely no longer refused.

    Raises:
        JobNotFinished: the failed step cannot be repeated before its job has ended; the letter stays listed.
    """
    done = _redrive(session, letter, kept_seconds)
    session.execute(update(DeadLetter).where(DeadLetter.id == letter.id).values(redriven_at=from_now()))
    return done


def _redrive(session: Session, letter: DeadLetter, kept_seconds: int) -> str:
    if letter.job_id is None:
        return "its message names no job; it only counts as seen"
    try:
        jobs.retry(session, letter.job_id, kept_seconds=kept_seconds)
    except (JobNotFound, JobExpired):
        return f"job {letter.job_id} is gone; its upload is accepted again"
    except NothingToRetry:
        return f"job {letter.job_id} has nothing left to repeat"
    except JobNotFinished:
        if letter.job_task in steps.ended_tasks(session, letter.job_id):
            raise
        outbox.enqueue(session, outbox.START_JOB, outbox.start_args(letter.job_id))
        return f"job {letter.job_id} is still open; what it lacks is sent again"
    return f"job {letter.job_id} runs again"


def purge(session: Session, letter_ids: Sequence[str] | None = None) -> int:
    """Delete these letters, or all letters; returns their number."""
    query = delete(DeadLetter)
    if letter_ids is not None:
        query = query.where(DeadLetter.id.in_(letter_ids))
    return rows_changed(session, query)
