"""The task that ends a job."""

from uuid import UUID

from app.services.finalizer import finalize as finalize_job
from app.services.outbox import FINALIZE
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off


@celery_app.task(name=FINALIZE, ignore_result=True)
def finalize(job_id: str) -> None:
    """End a job, as body of its chord. Usually the transaction of the last step has already done so."""
    with undone_when_cut_off():
        resources().database.retry(finalize_job, resources().must_stop, UUID(job_id))
