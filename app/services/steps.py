"""The states of a task's steps: which worker may run them, and which outcome counts.

Every function first takes the job's row lock, so that none sees a half-changed job, and moves a state only forward. A
task that runs twice, even at the same time, has the effect of one run: the attempt number and the owner of the lease
fence off every late writer.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Float,
    Update,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.dml import ReturningUpdate

from app import metrics
from app.backoff import Backoff
from app.database import after_commit, from_now, insert_rows, rows_changed, table_of
from app.errors import PixelProcessDied, PixToolsError, PoisonInput
from app.models import STEP_OPEN, Job, JobAsset, JobStatus, Result, Step, StepAttempt, StepStatus
from app.operations import DEAD_LETTER_QUEUE
from app.services import outbox
from app.services.dag_builder import INPUT, Plan, PlannedTask
from app.services.finalizer import end_if_through, lock_open_job
from app.services.scheduling import due

# half of each pause is random: tasks that failed together because a store was away must not come back together
RETRIES = Backoff(first=2.0, longest=60.0, least_share=0.5)
# Statements that every task needs are built once and without the ORM: building one costs more than running it. Bound
# parameters whose names end in `_` are used in conditions; the others have the names of the columns that they set
JOBS, STEPS, ATTEMPTS = table_of(Job), table_of(Step), table_of(StepAttempt)
OF_TASK = (STEPS.c.job_id == bindparam("job_"), STEPS.c.task == bindparam("task_"))
HELD = update(STEPS).where(
    *OF_TASK,
    STEPS.c.status == StepStatus.RUNNING,
    STEPS.c.lease_owner == bindparam("owner_"),
    STEPS.c.attempts == bindparam("attempt_"),
)
USED = ("cpu_seconds", "pixels", "bytes_in", "bytes_out")  # columns of the last step of a task
SUCCEEDED = HELD.values(
    status=StepStatus.SUCCEEDED,
    lease_owner=None,
    lease_until=None,
    finished_at=from_now(),
    **{name: case((STEPS.c.id == STEPS.c.task, cast(bindparam(f"{name}_"), STEPS.c[name].type))) for name in USED},
).returning(STEPS.c.id, STEPS.c.position)
REPORTED = update(STEPS).where(STEPS.c.job_id == bindparam("job_"), STEPS.c.id == bindparam("step_"))
PROCESSING = update(JOBS).where(JOBS.c.id == bindparam("job_")).values(status=JobStatus.PROCESSING)
BEGUN = insert(ATTEMPTS).values(started_at=from_now())
OVER = (
    update(ATTEMPTS)
    .where(
        ATTEMPTS.c.job_id == bindparam("job_"),
        ATTEMPTS.c.run == bindparam("run_"),
        ATTEMPTS.c.task == bindparam("task_"),
        ATTEMPTS.c.number == bindparam("number_"),
    )
    .values(finished_at=from_now())
)
UNHELD: dict[str, Any] = {"status": StepStatus.PENDING, "lease_owner": None, "lease_until": None}
LONGEST_ASKED_SECONDS = 300.0  # the longest Retry-After that the fetch of an input follows
LONGEST_WAIT_SECONDS = 30.0  # between two checks whether a disk has room or the storage is back


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to make one attempt at a task."""

    job: Job
    plan: Plan
    task: PlannedTask
    owner: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result that a task has stored, or one file of a result with several files."""

    #: the end of its name, if the result is several files
    suffix: str = ""
    key: str
    filename: str
    format: str
    content_type: str
    #: pixels; None: it is not an image
    width: int | None
    height: int | None
    bytes: int
    sha256: str
    #: the copy in a store of the tenant; None: there is none
    output: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The resources that a successful attempt used; None: unknown."""

    #: CPU time of the process that worked on the pixels
    cpu_seconds: float | None = None
    #: pixels of the task's input, summed over the frames that were read
    pixels: int | None = None
    bytes_in: int | None = None
    #: total size of the results that the attempt stored
    bytes_out: int | None = None


def assets_of(session: Session, job_id: UUID) -> dict[str, str]:
    """The SHA-256 of each asset that a job uses, by name; empty for a job that an earlier version accepted."""
    return {asset.name: asset.sha256 for asset in session.scalars(select(JobAsset).where(JobAsset.job_id == job_id))}


def claim(
    session: Session, job_id: UUID, task_id: str, *, owner: str, lease_seconds: float, max_attempts: int
) -> Claim | None:
    """Start an attempt at a task.

    Returns:
        None if there is nothing to do: the job or the task has ended, the task's parent has not succeeded, or another
        worker holds the task. If that worker dies, its lease expires and the reconciler sends the task again.
    """
    job = lock_open_job(session, job_id)
    if job is None:
        return None
    plan = Plan.from_json(job.plan)
    task = plan.task(task_id)
    attempt = _start(session, job_id, task, owner, lease_seconds)
    if attempt is None:
        return None
    if attempt > max_attempts:
        error = PoisonInput(f"Given up after {max_attempts} attempts that ended a worker.")
        _give_up(session, job, plan, task, error, attempts=max_attempts)
        _bury(session, job, task)
        return None
    if job.status != JobStatus.PROCESSING:
        session.connection().execute(PROCESSING, {"job_": job_id})
        set_committed_value(job, "status", JobStatus.PROCESSING.value)
    _note_start(session, job, task_id, attempt, owner)
    return Claim(job=job, plan=plan, task=task, owner=owner, attempt=attempt)


def _start(session: Session, job_id: UUID, task: PlannedTask, owner: str, lease_seconds: float) -> int | None:
    """Take the lease of a task if it is free and the parent has succeeded; returns the attempt's number, or None."""
    given = {"job_": job_id, "task_": task.id, "owner_": owner, "seconds_": float(lease_seconds)}
    if task.parent is not None:
        given["parent_"] = task.parent
    started = session.connection().execute(_starting(continued=task.parent is not None), given)
    attempts: int | None = started.scalars().first()
    return attempts


@cache
def _starting(*, continued: bool) -> ReturningUpdate[int]:
    """The update that takes a lease; for a task with a parent, only if the parent has succeeded."""
    started = update(STEPS).where(*OF_TASK, _is_free())
    if continued:
        parent = STEPS.alias()
        ready = select(parent.c.id).where(parent.c.job_id == bindparam("job_"), parent.c.id == bindparam("parent_"))
        started = started.where(ready.where(parent.c.status == StepStatus.SUCCEEDED).exists())
    values = {
        "status": StepStatus.RUNNING,
        "attempts": STEPS.c.attempts + 1,
        "lease_owner": bindparam("owner_"),
        "lease_until": from_now(bindparam("seconds_", type_=Float)),
        "started_at": func.coalesce(STEPS.c.started_at, from_now()),
        "progress": 0.0,
        "error": None,
    }
    return started.values(values).returning(STEPS.c.attempts)


def _is_free() -> ColumnElement[bool]:
    """A condition for steps that are pending, or running with a lease that has expired or is the caller's own."""
    taken_over = or_(STEPS.c.lease_until < from_now(), STEPS.c.lease_owner == bindparam("owner_"))
    return or_(STEPS.c.status == StepStatus.PENDING, (STEPS.c.status == StepStatus.RUNNING) & taken_over)


def _note_start(session: Session, job: Job, task_id: str, number: int, owner: str) -> None:
    if number > 1:
        # An earlier attempt without an outcome is lost; if it still ends, its outcome is discarded
        earlier = (StepAttempt.job_id == job.id, StepAttempt.run == job.run, StepAttempt.task == task_id)
        lost = update(StepAttempt).where(*earlier, StepAttempt.outcome.is_(None))
        session.execute(lost.values(outcome="lost", finished_at=from_now()))
    started = {"job_id": job.id, "run": job.run, "task": task_id, "number": number, "owner": owner}
    session.connection().execute(BEGUN, started)


def _note_end(session: Session, held: Claim, outcome: str, error: PixToolsError | None = None) -> None:
    attempt = {"job_": held.job.id, "run_": held.job.run, "task_": held.task.id, "number_": held.attempt}
    became = {"outcome": outcome, "error": error.as_record() if error else None}
    session.connection().execute(OVER, {**attempt, **became})


def _steps(job_id: UUID, task_id: str) -> Update:
    """An update of the steps of a task, of which the session must not have ORM objects."""
    return update(Step).where(Step.job_id == job_id, Step.task == task_id).execution_options(synchronize_session=False)


def renew(session: Session, held: Claim, lease_seconds: float, **values: Any) -> bool:
    """Extend the lease; returns False if it is lost, because the job was cancelled or another attempt has begun.

    Args:
        values: further columns to set, e.g. the progress.
    """
    return rows_changed(session, _held(held).values(lease_until=from_now(lease_seconds), **values)) > 0


def _held(held: Claim) -> Update:
    return _steps(held.job.id, held.task.id).where(
        Step.status == StepStatus.RUNNING, Step.lease_owner == held.owner, Step.attempts == held.attempt
    )


def succeed(
    session: Session,
    held: Claim,
    outcomes: Mapping[str, Sequence[StoredResult]],
    reports: Mapping[str, dict[str, Any]] | None = None,
    usage: Usage | None = None,
) -> bool:
    """Record the success of a task, and if its steps are the last ones, the end of the job.

    Args:
        session: one transaction.
        held: the attempt.
        outcomes: stored results by task id, those of the task itself and of its inline children.
        reports: reports of the steps by step id.
        usage: resources that the attempt used.

    Returns:
        False if this attempt no longer counts; nothing was written.
    """
    job = lock_open_job(session, held.job.id)
    if job is None:
        return False
    ended = _succeed(session, held, usage or Usage())
    if not ended:
        return False
    _note_end(session, held, "succeeded")
    for task_id in outcomes:
        if task_id != held.task.id:
            ended.update(_succeed_along(session, held, task_id))
    results = list(_results(held, ended, outcomes))
    insert_rows(session, results)
    for step_id, report in (reports or {}).items():
        if step_id in ended:
            session.connection().execute(REPORTED, {"job_": job.id, "step_": step_id, "report": report})
    if held.plan.is_wide(held.task.id):  # its Canvas ended with this task; the children wait for their turns
        due.add_tasks(session, job, held.plan, [t for t in held.plan.children(held.task.id) if t.id not in ended])
    end_if_through(session, job, results)
    return True


def is_unwanted(session: Session, held: Claim) -> bool:
    """Whether the job was deleted or cancelled; the answer holds until the end of the transaction.

    If not, another attempt stores its results under the same keys, so they must not be removed.
    """
    job = session.scalar(select(Job).where(Job.id == held.job.id).with_for_update())
    if job is None:
        return True
    status = session.scalar(select(Step.status).where(Step.job_id == job.id, Step.id == held.task.id))
    return status == StepStatus.CANCELLED


def _succeed(session: Session, held: Claim, usage: Usage) -> dict[str, int]:
    """End a task with success if this attempt holds it; returns its steps with their positions, or nothing."""
    attempt = {"job_": held.job.id, "task_": held.task.id, "owner_": held.owner, "attempt_": held.attempt}
    used = {f"{name}_": getattr(usage, name) for name in USED}
    return dict(session.connection().execute(SUCCEEDED, attempt | used).all())


def _succeed_along(session: Session, held: Claim, task_id: str) -> dict[str, int]:
    """Record that a task has done the work of an inline child; returns the ended steps with their positions."""
    began = select(Step.started_at).where(Step.job_id == held.job.id, Step.id == held.task.id).scalar_subquery()
    owned: dict[str, Any] = {"started_at": began, "finished_at": from_now()}
    untouched = _steps(held.job.id, task_id).where(Step.status == StepStatus.PENDING, Step.attempts == 0)
    done = untouched.values(status=StepStatus.SUCCEEDED, attempts=1, error=None, **owned)
    ended = _positions(session, done)
    if ended:
        attempt = {"run": held.job.run, "task": task_id, "number": 1, "owner": held.owner, "outcome": "succeeded"}
        session.execute(insert(StepAttempt).values(job_id=held.job.id, **attempt, **owned))
    return ended


def _positions(session: Session, ending: Any) -> dict[str, int]:
    """Run an update of steps; returns the changed steps with their positions in the tree."""
    return dict(session.execute(ending.returning(Step.id, Step.position)).all())


def _results(held: Claim, ended: Mapping[str, int], outcomes: Mapping[str, Sequence[StoredResult]]) -> Iterator[Result]:
    for task_id, stored in outcomes.items():
        planned = held.plan.task(task_id).result
        if planned is None:
            raise ValueError(f"task {task_id} plans no result")
        if task_id not in ended:
            continue
        for outcome in stored:
            told = {name: value for name, value in outcome.__dict__.items() if name != "suffix"}
            name = planned.name_of(outcome.suffix)
            yield Result(job_id=held.job.id, step_id=task_id, position=ended[task_id], name=name, **told)


def _end(session: Session, held: Claim, **values: Any) -> dict[str, int]:
    """End a task if this attempt holds it; returns its steps with their positions, or nothing."""
    return _positions(session, _held(held).values(lease_owner=None, lease_until=None, finished_at=from_now(), **values))


def fail(session: Session, held: Claim, error: PixToolsError, *, max_attempts: int) -> bool:
    """Record the failure of a task: another attempt follows if the error allows one, or else this branch ends.

    Returns:
        False if this attempt no longer counts; nothing was written.
    """
    job = lock_open_job(session, held.job.id)
    if job is None:
        return False
    if error.retryable and held.attempt < max_attempts:
        return _try_again(session, held, error)
    if isinstance(error, PixelProcessDied):
        error = PoisonInput(f"Given up after {held.attempt} attempts, each of which ended its process.")
    if not _end(session, held, status=StepStatus.FAILED, error=error.as_record()):
        return False
    _note_end(session, held, "failed", error)
    if isinstance(error, PoisonInput):
        _bury(session, job, held.task)
    _skip_descendants(session, held.job.id, held.plan, held.task)
    end_if_through(session, job)
    return True


def _try_again(session: Session, held: Claim, error: PixToolsError) -> bool:
    if not rows_changed(session, _held(held).values(**UNHELD, error=error.as_record())):
        return False
    _note_end(session, held, "failed", error)
    after_commit(session, metrics.STEP_RETRIES.labels(held.task.steps[-1].op).inc)
    _send_again(session, held, max(RETRIES.pause(held.attempt), _asked_for(error)))
    return True


def _asked_for(error: PixToolsError) -> float:
    """The seconds that a server has asked us to wait, limited to our longest pause."""
    return min(float(error.retry_after or 0), LONGEST_ASKED_SECONDS)


def _send_again(session: Session, held: Claim, delay: float) -> None:
    """Write a message for another attempt."""
    if held.task.id != INPUT:
        outbox.enqueue(session, outbox.START_JOB, outbox.start_args(held.job.id, held.task.id), delay=delay)
        return
    # A fetch goes straight to its own queue: it needs no pixel worker. The wait may be longer than the time after which
    # the reconciler sends a silent job again, so the job counts as dispatched when the wait ends
    args = [str(held.job.id), held.task.id]
    outbox.enqueue(session, held.task.name, args, delay=delay, queue=held.task.queue)
    held_job = update(Job).where(Job.id == held.job.id).execution_options(synchronize_session=False)
    session.execute(held_job.values(dispatched_at=from_now(delay)))


def put_off(session: Session, held: Claim, error: PixToolsError) -> float | None:
    """Return a task to the queue because a disk is full or the storage is away; the attempt does not count.

    Returns:
        The seconds until the next attempt, about as long as the task has waited so far; None if this attempt no longer
        counts.
    """
    started = select(Step.started_at).where(Step.job_id == held.job.id, Step.id == held.task.id)
    began, now = session.scalar(started), session.scalars(select(from_now())).one()
    waited = (now - began).total_seconds() if began else 0.0
    delay = min(max(waited, RETRIES.first), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1)
    delay = _asked_for(error) or delay
    return delay if hand_back(session, held, delay=delay, error=error.as_record()) else None


def hand_back(session: Session, held: Claim, *, delay: float = 0, error: dict[str, Any] | None = None) -> bool:
    """Return a task to the queue because its worker has to stop; the attempt does not count.

    Args:
        session: one transaction.
        held: the attempt.
        delay: seconds until the next attempt.
        error: reason for the wait, shown with the step until the next attempt.

    Returns:
        False if this attempt no longer counts; nothing was written.
    """
    if lock_open_job(session, held.job.id) is None:
        return False
    if not rows_changed(session, _held(held).values(**UNHELD, attempts=held.attempt - 1, progress=0.0, error=error)):
        return False
    this = (StepAttempt.job_id == held.job.id, StepAttempt.run == held.job.run, StepAttempt.task == held.task.id)
    session.execute(delete(StepAttempt).where(*this, StepAttempt.number == held.attempt))
    _send_again(session, held, delay)
    return True


def _skip_descendants(session: Session, job_id: UUID, plan: Plan, task: PlannedTask) -> None:
    below = [step.id for other in plan.descendants(task.id) for step in other.steps]
    if below:
        skipped = update(Step).where(Step.job_id == job_id, Step.id.in_(below), Step.status.in_(STEP_OPEN))
        session.execute(skipped.values(status=StepStatus.SKIPPED, finished_at=from_now()))


def _bury(session: Session, job: Job, task: PlannedTask) -> None:
    """Send a task that crashes every worker to the dead letter queue."""
    outbox.enqueue(session, task.name, [str(job.id), task.id], queue=DEAD_LETTER_QUEUE)


def give_up(session: Session, job_id: UUID, task_id: str, error: PixToolsError) -> None:
    """Fail a task that no worker will run any more, if it is still open."""
    job = lock_open_job(session, job_id)
    if job is None or task_id in ended_tasks(session, job_id):
        return
    plan = Plan.from_json(job.plan)
    _give_up(session, job, plan, plan.task(task_id), error)


def _give_up(session: Session, job: Job, plan: Plan, task: PlannedTask, error: PixToolsError, **values: Any) -> None:
    ended = _steps(job.id, task.id).values(
        status=StepStatus.FAILED, error=error.as_record(), lease_owner=None, lease_until=None, finished_at=from_now()
    )
    session.execute(ended.values(**values))
    _skip_descendants(session, job.id, plan, task)
    end_if_through(session, job)


def ended_tasks(session: Session, job_id: UUID) -> set[str]:
    """The ids of the tasks that no longer need a worker."""
    return ended_tasks_of(session, [job_id])[job_id]


def ended_tasks_of(session: Session, job_ids: Collection[UUID]) -> dict[UUID, set[str]]:
    """The same as `ended_tasks` for several jobs, by the id of the job."""
    ended: dict[UUID, set[str]] = {job_id: set() for job_id in job_ids}
    query = select(Step.job_id, Step.task).where(Step.job_id.in_(job_ids), Step.status.not_in(STEP_OPEN)).distinct()
    for job_id, task in session.execute(query):
        ended[job_id].add(task)
    return ended


def expired_leases(session: Session, limit: int) -> dict[UUID, list[str]]:
    """Tasks with an expired lease, whose worker is silent, by job."""
    silent = (
        select(Step.job_id, Step.task)
        .where(Step.status == StepStatus.RUNNING, Step.lease_until < from_now())
        .group_by(Step.job_id, Step.task)
        .limit(limit)
    )
    found: dict[UUID, list[str]] = {}
    for job_id, task in session.execute(silent):
        found.setdefault(job_id, []).append(task)
    return found


def give_lease_up(session: Session, job_id: UUID, task_id: str) -> bool:
    """Free the expired lease of a task in a locked job; returns False if it was renewed or returned meanwhile."""
    silent = _steps(job_id, task_id).where(Step.status == StepStatus.RUNNING, Step.lease_until < from_now())
    return rows_changed(session, silent.values(UNHELD)) > 0


def give_all_leases_up(session: Session) -> None:
    """Free all leases, at the start of the only process: their holders ended with the previous process."""
    session.execute(update(Step).where(Step.status == StepStatus.RUNNING).values(UNHELD))
