"""What clients do with jobs: accept, read, list, cancel, retry, delete. Each runs in the caller's transaction."""

import base64
import binascii
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from app import metrics, tracing
from app.database import after_commit, from_now, hooks_of, insert_rows, rows_changed
from app.errors import InvalidCursor, JobAlreadyFinished, JobNotFinished, JobNotFound, NothingToRetry, ResultNotFound
from app.imaging.probe import ImageHeader
from app.models import (
    DEFAULT_PRIORITY,
    JOB_OPEN,
    STEP_OPEN,
    STEP_UNSUCCESSFUL,
    Job,
    JobStatus,
    Result,
    Step,
    StepStatus,
)
from app.operations import Queue
from app.services import finalizer, outbox
from app.services.access import usage
from app.services.access.limits import Load, TenantLimits, admit
from app.services.dag_builder import Node, Plan
from app.services.job_views import LOAD_VIEW, load_results, load_steps
from app.services.scheduling import due
from app.services.scheduling.effort import is_small, size_of
from app.services.storage.keys import input_key
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT

MAX_PAGE = 100  # jobs


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """An upload that has passed every check."""

    id: UUID
    operations: list[object]
    branches: tuple[Node, ...]
    plan: Plan
    webhook_url: str | None
    base_url: str
    filename: str
    header: ImageHeader
    bytes: int
    sha256: str
    kept_seconds: int
    priority: int = DEFAULT_PRIORITY
    tenant: str = DEFAULT_TENANT
    #: of the API key that it came with
    key_id: str | None = None


def accept(session: Session, new: NewJob, limits: TenantLimits | None = None) -> Job:
    """Write a job and its steps; the message that starts it is sent when they have committed.

    Args:
        session: one transaction.
        new: the job.
        limits: of tenants that have none of their own; None: nothing is limited.

    Raises:
        TenantLimit: its tenant has reached one.
    """
    now = datetime.now(UTC)
    job = Job(
        id=new.id,
        tenant=new.tenant,
        key_id=new.key_id,
        priority=new.priority,
        status=JobStatus.PENDING,
        created_at=now,
        expires_at=now + timedelta(seconds=new.kept_seconds),
        dispatched_at=now,
        run=1,
        operations=new.operations,
        plan=new.plan.to_json(),
        webhook_url=new.webhook_url,
        base_url=new.base_url,
        context=tracing.carrier() or None,
        input_key=input_key(new.id),
        input_filename=new.filename,
        input_format=new.header.format,
        input_width=new.header.width,
        input_height=new.header.height,
        input_frames=new.header.frames,
        input_bytes=new.bytes,
        input_sha256=new.sha256,
        steps=list(_new_steps(new)),
        results=[],
    )
    insert_rows(session, [job])
    insert_rows(session, job.steps)
    if limits is not None:  # late, since the tenant's other jobs wait from here on; before the broker has no place left
        pixels = new.header.width * new.header.height * new.header.frames_read
        admit(session, new.tenant, limits, Load(bytes=new.bytes, pixels=pixels))
    _send(session, job, new.plan)
    return job


def _send(session: Session, job: Job, plan: Plan) -> None:
    """Send a new job to the broker when there is room, and nobody waits who would come first."""
    queue = _place(session, job, plan)
    if queue is None:
        due.add_job(session, job, plan)
    elif len(plan.tasks) > 1:
        outbox.send_after_commit(session, outbox.START_JOB, [str(job.id)])
    else:
        # nothing to chain or to count: the task itself is the message, and starts sooner than by way of another one
        [task] = plan.tasks
        outbox.send_after_commit(session, task.name, [str(job.id), task.id], queue=queue)


def _place(session: Session, job: Job, plan: Plan) -> str | None:
    """Take places for the first tasks of a job; the queue of the first one, or None where it has to wait."""
    window, first = hooks_of(session).window, plan.ready(())
    if window is None:
        return first[0].queue
    if plan.is_wide(None):
        return None
    if all(is_small(plan, task, size_of(job)) for task in first) and window.take(Queue.SMALL.value, len(first)):
        return Queue.SMALL.value
    queues = Counter(task.queue for task in first)
    return first[0].queue if all(window.take(queue, places) for queue, places in queues.items()) else None


def _new_steps(new: NewJob) -> Iterator[Step]:
    task_of = {step.id: task for task in new.plan.tasks for step in task.steps}
    nodes = [node for branch in new.branches for node in branch.walk()]
    for position, node in enumerate(nodes):
        task = task_of[node.id]
        yield Step(
            job_id=new.id,
            id=node.id,
            position=position,
            op=node.operation.name,
            task=task.id,
            queue=task.queue,
            status=StepStatus.PENDING,
            attempts=0,
            progress=0.0,
        )


def get(session: Session, job_id: UUID) -> Job:
    """The job with its steps and results.

    Raises:
        JobNotFound: there is none.
    """
    job = session.scalar(select(Job).where(Job.id == job_id).execution_options(populate_existing=True))
    if job is None:
        raise JobNotFound(f"There is no job {job_id}.")
    load_steps(session, job)
    load_results(session, job)
    return job


def status_of(session: Session, job_id: UUID) -> str | None:
    """Only the state."""
    return session.scalar(select(Job.status).where(Job.id == job_id))


def open_among(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that are there and have not ended: what waiting clients ask for again and again."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(ids), Job.status.in_(JOB_OPEN))))


class Mark(NamedTuple):
    """What changes whenever anything that clients see of a job does."""

    status: str
    run: int
    attempts: int
    ended: int
    running: int
    progress: float


def marks(session: Session, ids: Collection[UUID]) -> dict[UUID, Mark]:
    """The marks of those of these jobs that are there: what listeners ask for again and again, in one query."""
    running = func.count().filter(Step.status == StepStatus.RUNNING)
    counted = (func.sum(Step.attempts), func.count(Step.finished_at), running, func.sum(Step.progress))
    query = select(Job.id, Job.status, Job.run, *counted).join(Step, Step.job_id == Job.id).group_by(Job.id)
    found: Iterable[Any] = session.execute(query.where(Job.id.in_(ids)))
    return {job_id: Mark(*values) for job_id, *values in found}


def some(session: Session, ids: Collection[UUID]) -> list[Job]:
    """Those of these jobs that are there, with their steps and results."""
    query = select(Job).where(Job.id.in_(ids)).options(*LOAD_VIEW).execution_options(populate_existing=True)
    return list(session.scalars(query))


def list_page(
    session: Session,
    *,
    limit: int,
    cursor: str | None = None,
    status: JobStatus | None = None,
) -> tuple[list[Job], str | None]:
    """A page of jobs, newest first, and the cursor of the next page.

    Raises:
        InvalidCursor: the cursor belongs to another listing or to none.
    """
    query = select(Job).options(*LOAD_VIEW).order_by(Job.id.desc()).limit(limit + 1)
    if status:
        query = query.where(Job.status == status)
    if cursor:
        query = query.where(Job.id < _read_cursor(cursor, status))
    jobs = list(session.scalars(query))
    more = len(jobs) > limit
    return jobs[:limit], _cursor(jobs[limit - 1].id, status) if more else None


def _cursor(job_id: UUID, status: JobStatus | None) -> str:
    return base64.urlsafe_b64encode(job_id.bytes + (status or "").encode()).decode().rstrip("=")


def _read_cursor(cursor: str, status: JobStatus | None) -> UUID:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        job_id = UUID(bytes=raw[:16])
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
    if raw[16:].decode(errors="replace") != (status or ""):
        raise InvalidCursor("The cursor was issued for another `status`.")
    return job_id


def cancel(session: Session, job_id: UUID) -> Job:
    """End a job now: what waits never starts, what runs counts no more, results so far stay.

    Raises:
        JobNotFound: there is none.
        JobAlreadyFinished: it has ended otherwise; a job that is cancelled already is simply returned.
    """
    job = _locked(session, job_id)
    if job.status == JobStatus.CANCELLED:
        return get(session, job_id)
    if job.status not in JOB_OPEN:
        raise JobAlreadyFinished(f"The job has already ended: {job.status}.", value=job.status)
    _cancel_steps(session, job_id)
    finalizer.end_now(session, job, JobStatus.CANCELLED)
    after_commit(session, metrics.JOBS.labels(JobStatus.CANCELLED, "none").inc)
    return get(session, job_id)


def _cancel_steps(session: Session, job_id: UUID) -> None:
    session.execute(
        update(Step)
        .where(Step.job_id == job_id, Step.status.in_(STEP_OPEN))
        .values(status=StepStatus.CANCELLED, finished_at=from_now(), lease_owner=None, lease_until=None)
    )


def _locked(session: Session, job_id: UUID) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise JobNotFound(f"There is no job {job_id}.")
    return job


def retry(session: Session, job_id: UUID, *, kept_seconds: int, limits: TenantLimits | None = None) -> Job:
    """Repeat what failed, was skipped or cancelled; results that are there stay as they are.

    Args:
        session: one transaction.
        job_id: of the job.
        kept_seconds: from now on.
        limits: of tenants that have none of their own; None: nothing is limited.

    Raises:
        JobNotFound: there is none.
        TooManyOpenJobs: its tenant may have no more.
        JobNotFinished: it is still running.
        NothingToRetry: every step succeeded.
    """
    job = _locked(session, job_id)
    if job.status in JOB_OPEN:
        raise JobNotFinished(f"The job has not ended yet: {job.status}.", value=job.status)
    unsuccessful = update(Step).where(Step.job_id == job_id, Step.status.in_(STEP_UNSUCCESSFUL))
    anew = {"status": StepStatus.PENDING, "attempts": 0, "error": None, "started_at": None, "finished_at": None}
    if not rows_changed(session, unsuccessful.values(anew)):
        raise NothingToRetry
    job.status, job.error, job.finished_at = JobStatus.PENDING, None, None
    job.run += 1
    job.dispatched_at = from_now()
    job.expires_at = from_now(kept_seconds)
    if limits is not None:
        session.flush()
        admit(session, job.tenant, limits, Load())
    window = hooks_of(session).window
    if window is None or window.take(Queue.DEFAULT.value):
        outbox.send_after_commit(session, outbox.START_JOB, [str(job_id)])
    else:
        due.add_rest(session, Job.id == job_id)
    return get(session, job_id)


def stop(session: Session, job_id: UUID) -> None:
    """Make sure that no worker writes anything more for this job, before its objects are deleted.

    Who deletes an open job is not told of its end; of one that has ended, events say no more than that it has.

    Raises:
        JobNotFound: there is none.
    """
    job = _locked(session, job_id)
    if job.status in JOB_OPEN:
        _cancel_steps(session, job_id)
        finalizer.end_silently(session, job, JobStatus.CANCELLED)
        usage.count_stopped(session, job)
    events.forget(session, job_id)


def remove(session: Session, job_id: UUID) -> bool:
    """Delete the rows of a job; steps, results and keys go with it. False: they are gone already."""
    usage.settle(session, [job_id])
    return session.scalar(delete(Job).where(Job.id == job_id).returning(Job.id)) is not None


def result(session: Session, job_id: UUID, name: str) -> Result:
    """One result by its name.

    Raises:
        JobNotFound: there is no such job.
        ResultNotFound: it has none of this name.
    """
    query = select(Job.id, Result).outerjoin(Result, and_(Result.job_id == Job.id, Result.name == name))
    row = session.execute(query.where(Job.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"There is no job {job_id}.")
    found: Result | None = row[1]
    if found is None:
        raise ResultNotFound(f"The job has no result {name[:64]!r}.")
    return found
