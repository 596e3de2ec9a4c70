"""The end of a job: derived from its steps, and written once, in the transaction that ends the last step."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Float, bindparam, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from app import metrics
from app.database import after_commit, from_now, hooks_of, table_of
from app.models import JOB_OPEN, STEP_OPEN, STEP_UNSUCCESSFUL, Job, JobStatus, Result, StepStatus
from app.services import webhook
from app.services.job_views import load_results, load_steps

log = logging.getLogger(__name__)

# Statements that every job needs are built once: building one costs more than running it
JOBS = table_of(Job)
LOCKED = select(Job).where(Job.id == bindparam("job_id")).with_for_update().execution_options(populate_existing=True)
ENDED = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("job_id"))
    .values(finished_at=from_now(), expires_at=from_now(bindparam("kept", type_=Float)))
    .returning(JOBS.c.finished_at, JOBS.c.expires_at)
)


def lock_open_job(session: Session, job_id: UUID) -> Job | None:
    """The job, locked until the end of the transaction; None if it was deleted or has ended."""
    job = session.scalar(LOCKED, {"job_id": job_id})
    return job if job is not None and job.status in JOB_OPEN else None


def finalize(session: Session, job_id: UUID) -> bool:
    """End a job whose steps have all ended, unless the transaction of the last step has done so.

    Returns:
        False if the job had already ended or has open steps; nothing was written.
    """
    job = lock_open_job(session, job_id)
    return job is not None and end_if_through(session, job)


def end_if_through(session: Session, job: Job, added: Sequence[Result] = ()) -> bool:
    """End a locked job and announce its end, if it has no open step; returns whether it has ended.

    Args:
        session: one transaction.
        job: an object of this session.
        added: results that this transaction has added; if these are all planned results, no query is needed.
    """
    session.flush()
    steps = load_steps(session, job)
    if any(step.status in STEP_OPEN for step in steps):
        return False
    load_results(session, job, added)
    end(session, job, _outcome(job), next((step.error for step in steps if step.status == StepStatus.FAILED), None))
    after_commit(session, partial(_report, job))
    return True


def _outcome(job: Job) -> JobStatus:
    if not any(step.status in STEP_UNSUCCESSFUL for step in job.steps):
        return JobStatus.COMPLETED
    return JobStatus.COMPLETED_WITH_ERRORS if job.results else JobStatus.FAILED


def _report(job: Job) -> None:
    seconds = (datetime.now(UTC) - job.created_at).total_seconds()
    code = job.error["code"] if job.error else None
    operations = {step["op"] for task in job.plan["tasks"] for step in task["steps"]}
    metrics.count_job(job.status, code, operations, seconds if job.run == 1 else None)
    fields = {"job_id": str(job.id), "status": job.status, "code": code, "seconds": round(seconds, 3)}
    log.info("job_ended", extra=fields)


def end(session: Session, job: Job, status: JobStatus, error: dict[str, Any] | None = None) -> None:
    """Write the final state of a locked job whose steps and results are loaded, and its event."""
    end_silently(session, job, status, error)
    webhook.announce(session, job)


def end_now(session: Session, job: Job, status: JobStatus) -> None:
    """End a locked job before its steps have, and write its event."""
    session.flush()
    load_steps(session, job)
    load_results(session, job)
    end(session, job, status)


def kept_seconds(job: Job) -> float:
    """The seconds for which a job is kept after its end; a job of an earlier version keeps the time set then."""
    if job.kept_seconds is not None:
        return job.kept_seconds
    return (job.expires_at - (job.finished_at or job.created_at)).total_seconds()


def end_silently(session: Session, job: Job, status: JobStatus, error: dict[str, Any] | None = None) -> None:
    """Write the final state of a locked job without an event."""
    values = {"job_id": job.id, "kept": kept_seconds(job), "status": status, "error": error}
    ended = session.connection().execute(ENDED, values).mappings().one()
    for name, value in {**ended, "status": status.value, "error": error}.items():
        set_committed_value(job, name, value)
    after_commit(session, partial(hooks_of(session).ended, job.id))
