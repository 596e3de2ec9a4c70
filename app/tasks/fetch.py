"""The task that fetches the input of a job."""

from uuid import UUID

from celery import Task

from app.services.dag_builder import FETCH_INPUT
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off


@celery_app.task(bind=True, name=FETCH_INPUT, ignore_result=True)
def fetch_input(task: Task, job_id: str, task_id: str) -> None:
    """Make one attempt at fetching the input of a job."""
    with undone_when_cut_off():
        resources().fetcher.run(UUID(job_id), task_id, owner=task.request.id)
