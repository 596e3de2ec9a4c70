"""The end of a job, and telling its client."""

from uuid import UUID

from app.services.finalizer import finalize as finalize_job
from app.services.outbox import DELIVER_WEBHOOK, FINALIZE
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off


@celery_app.task(name=FINALIZE, ignore_result=True)
def finalize(job_id: str) -> None:
    """End the job if all its steps have ended; whoever asks first does it, everyone else finds it done."""
    with undone_when_cut_off():
        resources().database.insist(finalize_job, resources().must_stop, UUID(job_id))


@celery_app.task(name=DELIVER_WEBHOOK, ignore_result=True)
def deliver_webhook(delivery_id: str) -> None:
    """Make one attempt at a delivery."""
    resources().webhooks.attempt(delivery_id)
