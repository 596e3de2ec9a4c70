"""One thin task per pixel operation. A linear run of operations is one task: the one of its last operation."""

from uuid import UUID

from celery import Task

from app.operations import (
    BLUR,
    CONVERT_AVIF,
    CONVERT_GIF,
    CONVERT_JPEG,
    CONVERT_PNG,
    CONVERT_TIFF,
    CONVERT_WEBP,
    CROP,
    FLIP,
    RESIZE,
    ROTATE,
    SHARPEN,
    TRIM,
)
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources


def _run(task: Task, job_id: str, task_id: str) -> None:
    resources().executor.run(UUID(job_id), task_id, owner=task.request.id)


@celery_app.task(bind=True, name=RESIZE.task)
def resize(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CROP.task)
def crop(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=ROTATE.task)
def rotate(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=FLIP.task)
def flip(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=TRIM.task)
def trim(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=BLUR.task)
def blur(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=SHARPEN.task)
def sharpen(self: Task, job_id: str, task_id: str) -> None:
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


@celery_app.task(bind=True, name=CONVERT_GIF.task)
def convert_gif(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)


@celery_app.task(bind=True, name=CONVERT_TIFF.task)
def convert_tiff(self: Task, job_id: str, task_id: str) -> None:
    _run(self, job_id, task_id)
