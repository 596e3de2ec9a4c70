"""Operations on jobs: accept, read, list, cancel, retry, delete. Each runs in the caller's transaction."""

import base64
import binascii
import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, and_, delete, func, select, update
from sqlalchemy.orm import Session

from app import metrics, tracing
from app.database import after_commit, from_now, hooks_of, insert_rows, insertion, rows_changed, table_of
from app.errors import (
    DatabaseUnavailable,
    ExternalIdTaken,
    InvalidCursor,
    JobAlreadyFinished,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    NothingToRetry,
    PixToolsError,
    ResultNotFound,
)
from app.imaging.probe import ImageHeader
from app.models import (
    DEFAULT_PRIORITY,
    IDENTIFIED,
    JOB_OPEN,
    STEP_OPEN,
    STEP_UNSUCCESSFUL,
    Job,
    JobAsset,
    JobStatus,
    JobTag,
    JobTombstone,
    Result,
    Step,
    StepStatus,
)
from app.moments import in_utc
from app.operations import FETCH, Queue
from app.services import finalizer, outbox, sources
from app.services.access import usage
from app.services.access.limits import Load, TenantLimits, admit
from app.services.dag_builder import INPUT, Node, Plan
from app.services.job_views import LOAD_VIEW, load_results, load_steps
from app.services.outputs import Output
from app.services.scheduling import due
from app.services.scheduling.effort import is_small, size_of
from app.services.sources import Source
from app.services.storage.keys import input_key
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT

MAX_PAGE = 100  # jobs
ROUNDS = 3  # attempts to insert a job while other jobs with the same external id are inserted and deleted
#: longest time in seconds from a job's id, which contains the time, to its row: the upload is stored in between
ID_AHEAD = 3600
CLOCKS_DIFFER = 60  # seconds by which a clock may be set back in that time
LAST_ID = 2**48 - 1  # milliseconds
JOBS = table_of(Job)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A request that has passed all checks. Properties of the input are None until it is fetched."""

    id: UUID
    operations: list[object]
    branches: tuple[Node, ...]
    plan: Plan
    webhook_url: str | None
    base_url: str
    filename: str
    header: ImageHeader | None = None
    bytes: int | None = None
    sha256: str | None = None
    #: where the input is to be fetched from; None: it was uploaded
    source: Source | None = None
    #: where copies of the results are written
    output: Output | None = None
    kept_seconds: int
    priority: int = DEFAULT_PRIORITY
    tenant: str = DEFAULT_TENANT
    #: id of the API key of the request
    key_id: str | None = None
    tags: dict[str, str] | None = None
    #: unique in the tenant
    external_id: str | None = None
    #: name and version
    template: str | None = None
    #: SHA-256 of the stored files that its operations name, by name
    assets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobFilters:
    """The filters of a listing; None: no filter."""

    status: JobStatus | None = None
    #: name and value
    tag: tuple[str, str] | None = None
    external_id: str | None = None
    filename: str | None = None
    #: earliest creation time, included
    created_after: datetime | None = None
    #: end of the range of creation times, excluded
    created_before: datetime | None = None

    @property
    def digest(self) -> bytes:
        """A hash that distinguishes listings; empty without any filter."""
        given = {name: str(value) for name, value in self.__dict__.items() if value is not None}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).digest()[:8] if given else b""


ALL_JOBS = JobFilters()


def accept(session: Session, new: NewJob, limits: TenantLimits | None = None) -> Job:
    """Write a job and its steps; the message that starts it is sent after the commit.

    Args:
        session: one transaction.
        new: the job.
        limits: defaults for tenants without limits of their own; None: nothing is limited.

    Raises:
        ExternalIdTaken: the tenant has a job with this external id.
        TenantLimit: the tenant has reached a limit.
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
        kept_seconds=new.kept_seconds,
        external_id=new.external_id,
        tags=new.tags,
        template=new.template,
        dispatched_at=now,
        run=1,
        operations=new.operations,
        plan=new.plan.to_json(),
        webhook_url=new.webhook_url,
        base_url=new.base_url,
        context=tracing.carrier() or None,
        input_key=input_key(new.id),
        input_filename=new.filename,
        input_source=sources.sealed(session, new.source, job_id=new.id, tenant=new.tenant) if new.source else None,
        output=new.output.to_json() if new.output else None,
        **_facts(new),
        steps=list(_new_steps(new)),
        results=[],
    )
    if new.external_id is None:
        insert_rows(session, [job])
    else:
        _insert_alone(session, job)
    insert_rows(session, job.steps)
    insert_rows(session, _tags(new))
    insert_rows(session, [JobAsset(job_id=new.id, tenant=new.tenant, name=n, sha256=sha) for n, sha in new.assets])
    if limits is not None:  # late, since it locks the tenant's row; but before `_send` takes places in the broker
        admit(session, new.tenant, limits, _load(new))
    _send(session, job, new.plan)
    return job


def _tags(new: NewJob) -> list[JobTag]:
    given = (new.tags or {}).items()
    return [JobTag(job_id=new.id, tenant=new.tenant, name=name, value=value) for name, value in given]


def _insert_alone(session: Session, job: Job) -> None:
    """Insert a job with an external id; of two simultaneous inserts, the second waits for the first.

    Raises:
        ExternalIdTaken: there is a job with this external id.
    """
    values = {column.key: getattr(job, column.key) for column in JOBS.columns}
    row = insertion(session, Job).values(values)
    row = row.on_conflict_do_nothing(index_elements=["tenant", "external_id"], index_where=IDENTIFIED)
    for _ in range(ROUNDS):
        if session.connection().execute(row.returning(JOBS.c.id)).first() is not None:
            return
        same = select(Job.id).where(Job.tenant == job.tenant, Job.external_id == job.external_id)
        if (other := session.scalar(same)) is not None:
            detail = f"Your job {other} has this external id already; it is free again when that job is gone."
            extra = {"job_id": str(other)}
            raise ExternalIdTaken(detail, pointer="#/external_id", value=job.external_id, extra=extra)
    raise DatabaseUnavailable(
        "Jobs with this `external_id` are made and removed at the same moment; repeat the request."
    )


def _facts(new: NewJob) -> dict[str, Any]:
    """The columns of a new job about its input."""
    header = new.header
    return {
        "input_format": header.format if header else None,
        "input_width": header.width if header else None,
        "input_height": header.height if header else None,
        "input_frames": header.frames if header else None,
        "input_bytes": new.bytes,
        "input_sha256": new.sha256,
    }


def _load(new: NewJob) -> Load:
    return Load(bytes=new.bytes or 0, pixels=new.header.pixels_read if new.header else 0)


def _send(session: Session, job: Job, plan: Plan) -> None:
    """Send a new job to the broker if there is room and no other work comes first."""
    queue = _place(session, job, plan)
    if queue is None:
        due.add_job(session, job, plan)
    elif len(plan.tasks) > 1 and not plan.fetches:
        small = queue == Queue.SMALL.value
        outbox.send_after_commit(session, outbox.START_JOB, outbox.start_args(job.id, small=small))
    else:
        # a single task needs no Canvas: its own message starts it sooner than START_JOB would
        [task] = plan.ready(())
        outbox.send_after_commit(session, task.name, [str(job.id), task.id], queue=queue)


def _place(session: Session, job: Job, plan: Plan) -> str | None:
    """Reserve places for the first tasks of a job; returns the queue of the first one, or None if the job must wait."""
    window, first = hooks_of(session).window, plan.ready(())
    if window is None:
        return first[0].queue
    if plan.is_wide(None):
        return None
    # a whole tree takes one place: its tasks are short, and few of them can run at the same time
    if all(is_small(plan, task, size_of(job)) for task in first) and window.take(Queue.SMALL.value):
        return Queue.SMALL.value
    queues = Counter(task.queue for task in first)
    return first[0].queue if all(window.take(queue, places) for queue, places in queues.items()) else None


def _new_steps(new: NewJob) -> Iterator[Step]:
    task_of = {step.id: task for task in new.plan.tasks for step in task.steps}
    named = [(node.id, node.operation.name) for branch in new.branches for node in branch.walk()]
    if new.plan.fetches:
        named.insert(0, (INPUT, FETCH))
    for position, (step_id, op) in enumerate(named):
        task = task_of[step_id]
        yield Step(
            job_id=new.id,
            id=step_id,
            position=position,
            op=op,
            task=task.id,
            queue=task.queue,
            status=StepStatus.PENDING,
            attempts=0,
            progress=0.0,
        )


def get(session: Session, job_id: UUID) -> Job:
    """The job with its steps and results.

    Raises:
        JobNotFound: there is no such job.
        JobExpired: the job has expired.
    """
    job = session.scalar(select(Job).where(Job.id == job_id).execution_options(populate_existing=True))
    if job is None:
        raise missing(session, job_id)
    load_steps(session, job)
    load_results(session, job)
    return job


def must_exist(session: Session, job_id: UUID) -> None:
    """Raise unless the job exists.

    Raises:
        JobNotFound: there is no such job.
        JobExpired: the job has expired.
    """
    if status_of(session, job_id) is None:
        raise missing(session, job_id)


def missing(session: Session, job_id: UUID) -> PixToolsError:
    """The error for a job that does not exist. Only its owner learns that it has expired."""
    expired_at = session.scalar(select(JobTombstone.expired_at).where(JobTombstone.job_id == job_id))
    if expired_at is None:
        return JobNotFound(f"There is no job {job_id}.")
    at = in_utc(expired_at)
    return JobExpired(f"The job expired at {at} and was removed with its results.", extra={"expired_at": at})


def status_of(session: Session, job_id: UUID) -> str | None:
    """Only the status of a job; None: there is no such job."""
    return session.scalar(select(Job.status).where(Job.id == job_id))


def open_among(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """The ids of those jobs that exist and have not ended; polled for waiting clients."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(ids), Job.status.in_(JOB_OPEN))))


class Mark(NamedTuple):
    """A mark of a job's state, which changes whenever the representation of the job changes."""

    status: str
    run: int
    attempts: int
    ended: int
    running: int
    progress: float


def marks(session: Session, ids: Collection[UUID]) -> dict[UUID, Mark]:
    """The marks of those jobs that exist; polled for listeners, by one query."""
    running = func.count().filter(Step.status == StepStatus.RUNNING)
    counted = (func.sum(Step.attempts), func.count(Step.finished_at), running, func.sum(Step.progress))
    query = select(Job.id, Job.status, Job.run, *counted).join(Step, Step.job_id == Job.id).group_by(Job.id)
    found: Iterable[Any] = session.execute(query.where(Job.id.in_(ids)))
    return {job_id: Mark(*values) for job_id, *values in found}


def some(session: Session, ids: Collection[UUID]) -> list[Job]:
    """Those jobs that exist, with their steps and results."""
    query = select(Job).where(Job.id.in_(ids)).options(*LOAD_VIEW).execution_options(populate_existing=True)
    return list(session.scalars(query))


def list_page(
    session: Session, *, limit: int, cursor: str | None = None, filters: JobFilters = ALL_JOBS
) -> tuple[list[Job], str | None]:
    """A page of jobs, newest first, and the cursor of the next page.

    Raises:
        InvalidCursor: the cursor belongs to another listing, or is not a cursor.
    """
    before = _read_cursor(cursor, filters) if cursor else None
    jobs = list(session.scalars(listing(filters, before).options(*LOAD_VIEW).limit(limit + 1)))
    more = len(jobs) > limit
    return jobs[:limit], _cursor(jobs[limit - 1].id, filters) if more else None


def listing(filters: JobFilters, before: UUID | None = None) -> Select[Job]:
    """The query of a listing; each filter has an index with its rows in the order of the listing."""
    id_ = Job.id if filters.tag is None else JobTag.job_id
    query = select(Job).order_by(id_.desc())
    if filters.tag is not None:
        name, value = filters.tag
        query = query.join(JobTag, JobTag.job_id == Job.id).where(JobTag.name == name, JobTag.value == value)
    for column, wanted in (
        (Job.status, filters.status),
        (Job.external_id, filters.external_id),
        (Job.input_filename, filters.filename),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if filters.created_after is not None:
        least = _id_at(filters.created_after.timestamp() - ID_AHEAD)
        query = query.where(id_ >= least, Job.created_at >= filters.created_after)
    if filters.created_before is not None:
        most = _id_at(filters.created_before.timestamp() + CLOCKS_DIFFER)
        query = query.where(id_ < most, Job.created_at < filters.created_before)
    return query if before is None else query.where(id_ < before)


def _id_at(seconds: float) -> UUID:
    """An id that sorts before every id from this time on: a UUIDv7 begins with the milliseconds since 1970."""
    milliseconds = min(max(0, math.ceil(seconds * 1000)), LAST_ID)
    return UUID(int=milliseconds << 80)


def _cursor(job_id: UUID, filters: JobFilters) -> str:
    return base64.urlsafe_b64encode(job_id.bytes + filters.digest).decode().rstrip("=")


def _read_cursor(cursor: str, filters: JobFilters) -> UUID:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        job_id = UUID(bytes=raw[:16])
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
    if raw[16:] != filters.digest:
        raise InvalidCursor("The cursor was issued for other filters.")
    return job_id


def cancel(session: Session, job_id: UUID) -> Job:
    """End a job now: waiting steps never start, running steps no longer count, and existing results are kept.

    Raises:
        JobNotFound: there is no such job.
        JobAlreadyFinished: the job has ended in another way; a job that was already cancelled is returned.
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
        raise missing(session, job_id)
    return job


def retry(
    session: Session, job_id: UUID, *, kept_seconds: int, limits: TenantLimits | None = None, refetch: bool = False
) -> Job:
    """Repeat the steps that failed, were skipped or were cancelled; existing results are kept.

    Args:
        session: one transaction.
        job_id: id of the job.
        kept_seconds: seconds for which to keep a job that an earlier version accepted.
        limits: defaults for tenants without limits of their own; None: nothing is limited.
        refetch: whether the input is no longer stored, so that it has to be fetched again.

    Raises:
        JobNotFound: there is no such job.
        TooManyOpenJobs: the tenant has reached the limit on open jobs.
        JobNotFinished: the job is still running.
        NothingToRetry: all steps have succeeded.
    """
    job = _locked(session, job_id)
    if job.status in JOB_OPEN:
        raise JobNotFinished(f"The job has not ended yet: {job.status}.", value=job.status)
    of_job = update(Step).where(Step.job_id == job_id)
    anew = {"status": StepStatus.PENDING, "attempts": 0, "error": None, "started_at": None, "finished_at": None}
    if not rows_changed(session, of_job.where(Step.status.in_(STEP_UNSUCCESSFUL)).values(anew)):
        raise NothingToRetry
    if refetch:
        session.execute(of_job.where(Step.id == INPUT).values(anew))
    job.status, job.error, job.finished_at = JobStatus.PENDING, None, None
    job.run += 1
    job.dispatched_at = from_now()
    job.kept_seconds = job.kept_seconds or kept_seconds
    job.expires_at = from_now(job.kept_seconds)
    if limits is not None:
        session.flush()
        admit(session, job.tenant, limits, Load())
    window = hooks_of(session).window
    if window is None or window.take(Queue.DEFAULT.value):
        outbox.send_after_commit(session, outbox.START_JOB, outbox.start_args(job_id))
    else:
        due.add_rest(session, Job.id == job_id)
    return get(session, job_id)


def stop(session: Session, job_id: UUID) -> None:
    """Ensure that no worker writes anything more for a job, before its objects are deleted.

    An open job ends without an event. Events of a job that has ended lose their data except for the end itself.

    Raises:
        JobNotFound: there is no such job.
    """
    job = _locked(session, job_id)
    if job.status in JOB_OPEN:
        _cancel_steps(session, job_id)
        finalizer.end_silently(session, job, JobStatus.CANCELLED)
        usage.count_stopped(session, job)
    events.forget(session, job_id)


def remove(session: Session, job_id: UUID) -> bool:
    """Delete the row of a job with its steps, results and idempotency keys; returns False if it did not exist."""
    usage.settle(session, [job_id])
    return session.scalar(delete(Job).where(Job.id == job_id).returning(Job.id)) is not None


def result(session: Session, job_id: UUID, name: str) -> Result:
    """One result by its name.

    Raises:
        JobNotFound: there is no such job.
        ResultNotFound: the job has no result of this name.
    """
    query = select(Job.id, Result).outerjoin(Result, and_(Result.job_id == Job.id, Result.name == name))
    row = session.execute(query.where(Job.id == job_id)).one_or_none()
    if row is None:
        raise missing(session, job_id)
    found: Result | None = row[1]
    if found is None:
        raise ResultNotFound(f"The job has no result {name[:64]!r}.")
    return found
