"""The task that starts a job, or the rest of it."""

import logging
import time
from uuid import UUID

from celery import Task

from app.operations import Queue
from app.services.dispatch import canvas_for
from app.services.outbox import START_JOB
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off

log = logging.getLogger(__name__)

PLAIN_SECONDS = 10.0  # pause in the use of the result backend after a failure

_plain_until: list[float] = [0.0]  # end of that pause on the monotonic clock


@celery_app.task(bind=True, name=START_JOB, ignore_result=True)
def start_job(task: Task, job_id: str, root: str | None = None, small: bool = False) -> None:
    """Send the Canvas of everything that the job still needs, or of one task and its descendants.

    Args:
        task: Celery's task.
        job_id: id of the job.
        root: send only this task and its descendants; None: all.
        small: whether places in the small queue are reserved for small tasks.
    """
    # this message arrived through the small queue, so a process that takes small work is running
    spare = small and (task.request.delivery_info or {}).get("routing_key") == Queue.SMALL.value
    with undone_when_cut_off():
        if time.monotonic() < _plain_until[0] or not _sent(job_id, root, counted=True, spare=spare):
            _sent(job_id, root, counted=False, spare=spare)


def _sent(job_id: str, root: str | None, *, counted: bool, spare: bool) -> bool:
    """Send a Canvas; returns False if it has to be sent without a chord, whose tasks cannot be counted now."""
    own = resources()
    canvas = own.database.retry(canvas_for, own.must_stop, celery_app, UUID(job_id), root, counted=counted, spare=spare)
    try:
        if canvas is not None:
            canvas.apply_async()
    except getattr(celery_app.backend, "connection_errors", ()) as error:  # the in-memory backend has no such attribute
        if not counted:
            raise
        log.warning("chord_not_counted", extra={"job_id": job_id, "error": type(error).__name__})
        _plain_until[0] = time.monotonic() + PLAIN_SECONDS
        return False
    return True
