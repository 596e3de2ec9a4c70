"""The body of every task that runs operations."""

from typing import Any
from uuid import UUID

from celery import Task

from app.operations import Operation
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off


def task_of(operation: Operation) -> Any:
    """Register the task of an operation. Its messages contain only ids; the job's plan defines the work."""
    return celery_app.task(bind=True, name=operation.task)(_run)


def _run(task: Task, job_id: str, task_id: str) -> None:
    with undone_when_cut_off():
        resources().executor.run(UUID(job_id), task_id, owner=task.request.id)
