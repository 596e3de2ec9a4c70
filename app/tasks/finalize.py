"""The end of a job, and telling its client."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from app import metrics
from app.models import Job
from app.services.finalizer import finalize as finalize_job
from app.services.outbox import DELIVER_WEBHOOK, FINALIZE
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources

log = logging.getLogger(__name__)


@celery_app.task(name=FINALIZE, ignore_result=True)
def finalize(job_id: str) -> None:
    """End the job if all its steps have ended; whoever asks first does it, everyone else finds it done."""
    with resources().database.session() as session:
        ended = finalize_job(session, UUID(job_id))
        job = session.get(Job, UUID(job_id)) if ended else None
    if job is not None:
        seconds = (datetime.now(UTC) - job.created_at).total_seconds()
        code = job.error["code"] if job.error else None
        metrics.count_job(job.status, code, _operations(job), seconds if job.run == 1 else None)
        log.info("job_ended", extra={"status": job.status, "code": code, "seconds": round(seconds, 3)})


def _operations(job: Job) -> set[str]:
    return {step["op"] for task in job.plan["tasks"] for step in task["steps"]}


@celery_app.task(name=DELIVER_WEBHOOK, ignore_result=True)
def deliver_webhook(delivery_id: str) -> None:
    """Make one attempt at a delivery."""
    resources().webhooks.attempt(delivery_id)
