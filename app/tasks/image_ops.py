"""One thin task per pixel operation. A linear run of operations is one task: the one of its last operation."""

from uuid import UUID

from celery import Task

from app.operations import CONVERT_AVIF, CONVERT_JPEG, CONVERT_PNG, CONVERT_WEBP, RESIZE
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources


def _run(task: Task, job_id: str, task_id: str) -> None:
    resources().executor.run(UUID(job_id), task_id, owner=task.request.id)


@celery_app.task(bind=True, name=RESIZE.task)
def resize(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CONVERT_WEBP.task)
def convert_webp(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CONVERT_AVIF.task)
def convert_avif(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CONVERT_JPEG.task)
def convert_jpeg(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CONVERT_PNG.task)
def convert_png(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)
