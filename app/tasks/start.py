"""Starting a job, or what is left of it."""

from uuid import UUID

from app.services.dispatch import canvas_for
from app.services.outbox import START_JOB
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources


@celery_app.task(name=START_JOB, ignore_result=True)
def start_job(job_id: str, root: str | None = None) -> None:
    """Send the Canvas of everything that the job still needs, or of one task and what continues from it."""
    with resources().database.session() as session:
        canvas = canvas_for(session, celery_app, UUID(job_id), root)
    if canvas is not None:
        canvas.apply_async()
