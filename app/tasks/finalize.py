"""The end of a job, and telling those who want to know."""

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from celery import Task
from sqlalchemy.orm import Session

from app import metrics
from app.models import Job
from app.services import deliveries
from app.services.deliveries import Replay
from app.services.finalizer import finalize as finalize_job
from app.services.outbox import DELIVER_WEBHOOK, FINALIZE, REPLAY_WEBHOOKS
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off

log = logging.getLogger(__name__)


@celery_app.task(name=FINALIZE, ignore_result=True)
def finalize(job_id: str) -> None:
    """End the job if all its steps have ended; whoever asks first does it, everyone else finds it done."""
    with undone_when_cut_off():
        job = resources().database.insist(_ended, resources().must_stop, UUID(job_id))
    if job is not None:
        seconds = (datetime.now(UTC) - job.created_at).total_seconds()
        code = job.error["code"] if job.error else None
        metrics.count_job(job.status, code, _operations(job), seconds if job.run == 1 else None)
        log.info("job_ended", extra={"status": job.status, "code": code, "seconds": round(seconds, 3)})


def _ended(session: Session, job_id: UUID) -> Job | None:
    """The job, if this call has ended it."""
    return session.get(Job, job_id) if finalize_job(session, job_id) else None


def _operations(job: Job) -> set[str]:
    return {step["op"] for task in job.plan["tasks"] for step in task["steps"]}


@celery_app.task(bind=True, name=DELIVER_WEBHOOK, ignore_result=True)
def deliver_webhook(task: Task, delivery_id: str) -> None:
    """Make one attempt at a delivery."""
    with undone_when_cut_off():
        resources().webhooks.attempt(delivery_id, owner=task.request.id)


@celery_app.task(name=REPLAY_WEBHOOKS, ignore_result=True)
def replay_webhooks(after: str, *wanted: Any) -> None:
    """Have the next events of a replay sent again."""
    with undone_when_cut_off():
        resources().database.insist(deliveries.replay_batch, resources().must_stop, Replay.from_args(*wanted), after)
