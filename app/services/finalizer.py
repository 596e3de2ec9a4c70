"""The end of a job: read from its steps, written once."""

import logging
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import metrics
from app.database import after_commit, from_now
from app.models import STEP_OPEN, STEP_UNSUCCESSFUL, Job, JobStatus, Result, Step, StepStatus
from app.services import webhook
from app.services.steps import lock_job

log = logging.getLogger(__name__)


def finalize(session: Session, job_id: UUID) -> bool:
    """End a job whose steps have all ended, and announce it.

    Returns:
        False when the job has ended before or has open steps; nothing was written.
    """
    if _count(session, job_id, STEP_OPEN):  # asked after every step: nobody is to wait for the lock then
        return False
    job = lock_job(session, job_id)
    if job is None or _count(session, job_id, STEP_OPEN):
        return False
    end(session, job, _outcome(session, job))
    after_commit(session, partial(_tell, job))
    return True


def _tell(job: Job) -> None:
    seconds = (datetime.now(UTC) - job.created_at).total_seconds()
    code = job.error["code"] if job.error else None
    operations = {step["op"] for task in job.plan["tasks"] for step in task["steps"]}
    metrics.count_job(job.status, code, operations, seconds if job.run == 1 else None)
    log.info("job_ended", extra={"status": job.status, "code": code, "seconds": round(seconds, 3)})


def end(session: Session, job: Job, status: JobStatus) -> None:
    """Write the final state of a locked job, and its event in the same transaction."""
    end_silently(session, job, status)
    webhook.announce(session, job)


def end_silently(session: Session, job: Job, status: JobStatus) -> None:
    """Write the final state of a locked job that nobody wants to be told of."""
    job.status = status
    job.finished_at = from_now()
    session.flush()
    after_commit(session, partial(session.info["ended"], job.id))


def _outcome(session: Session, job: Job) -> JobStatus:
    if not _count(session, job.id, STEP_UNSUCCESSFUL):
        return JobStatus.COMPLETED
    job.error = session.scalar(
        select(Step.error)
        .where(Step.job_id == job.id, Step.status == StepStatus.FAILED)
        .order_by(Step.position)
        .limit(1)
    )
    results = session.scalar(select(func.count()).select_from(Result).where(Result.job_id == job.id))
    return JobStatus.COMPLETED_WITH_ERRORS if results else JobStatus.FAILED


def _count(session: Session, job_id: UUID, statuses: tuple[StepStatus, ...]) -> int:
    query = select(func.count()).select_from(Step).where(Step.job_id == job_id, Step.status.in_(statuses))
    return session.scalars(query).one()
