"""The end of a job: read from its steps, written once, in the transaction that ends the last of them."""

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import metrics
from app.database import after_commit, from_now, hooks_of
from app.models import JOB_OPEN, STEP_OPEN, STEP_UNSUCCESSFUL, Job, JobStatus, Result, Step, StepStatus
from app.services import webhook

log = logging.getLogger(__name__)


def lock_open_job(session: Session, job_id: UUID) -> Job | None:
    """The job, locked until the end of the transaction; None when it is deleted or has ended."""
    locked = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    job = session.scalar(locked)
    return job if job is not None and job.status in JOB_OPEN else None


def finalize(session: Session, job_id: UUID) -> bool:
    """End a job whose steps have all ended, should the transaction of the last one not have done so.

    Returns:
        False when the job has ended before or has open steps; nothing was written.
    """
    job = lock_open_job(session, job_id)
    return job is not None and end_if_through(session, job)


def end_if_through(session: Session, job: Job) -> bool:
    """End a locked job and announce it, if none of its steps is open; whether that is so."""
    session.flush()
    query = select(Step.status, Step.error).where(Step.job_id == job.id).order_by(Step.position)
    steps = session.execute(query).all()
    if any(step.status in STEP_OPEN for step in steps):
        return False
    if any(step.status in STEP_UNSUCCESSFUL for step in steps):
        job.error = next((step.error for step in steps if step.status == StepStatus.FAILED), None)
    end(session, job, _outcome(session, job, [step.status for step in steps]))
    after_commit(session, partial(_tell, job))
    return True


def _outcome(session: Session, job: Job, statuses: Collection[str]) -> JobStatus:
    if not any(status in STEP_UNSUCCESSFUL for status in statuses):
        return JobStatus.COMPLETED
    results = session.scalar(select(func.count()).select_from(Result).where(Result.job_id == job.id))
    return JobStatus.COMPLETED_WITH_ERRORS if results else JobStatus.FAILED


def _tell(job: Job) -> None:
    seconds = (datetime.now(UTC) - job.created_at).total_seconds()
    code = job.error["code"] if job.error else None
    operations = {step["op"] for task in job.plan["tasks"] for step in task["steps"]}
    metrics.count_job(job.status, code, operations, seconds if job.run == 1 else None)
    told = {"job_id": str(job.id), "status": job.status, "code": code, "seconds": round(seconds, 3)}
    log.info("job_ended", extra=told)


def end(session: Session, job: Job, status: JobStatus) -> None:
    """Write the final state of a locked job, and its event in the same transaction."""
    end_silently(session, job, status)
    webhook.announce(session, job)


def end_silently(session: Session, job: Job, status: JobStatus) -> None:
    """Write the final state of a locked job without an event."""
    job.status = status
    job.finished_at = from_now()
    session.flush()
    after_commit(session, partial(hooks_of(session).ended, job.id))
