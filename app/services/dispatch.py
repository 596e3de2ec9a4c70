"""Sending what is left of a job to the broker, and asking it what still waits there."""

import logging
from collections.abc import Callable
from uuid import UUID

from celery import Celery
from celery.canvas import Signature
from kombu import Connection
from sqlalchemy.orm import Session

from app import tracing
from app.database import from_now
from app.services.dag_builder import Plan, PlannedTask, to_canvas
from app.services.finalizer import end_if_through, lock_open_job
from app.services.outbox import FINALIZE, Message
from app.services.steps import ended_tasks

log = logging.getLogger(__name__)


def canvas_for(
    session: Session, app: Celery, job_id: UUID, root: str | None, *, counted: bool = True
) -> Signature | None:
    """The Canvas of everything that a job still needs; None when it has ended or needs nothing.

    Sending one twice is harmless: a task that has ended, or that another worker holds, is left alone by its copy.

    Args:
        session: the transaction that notes the dispatch.
        app: knows the tasks by name only; their modules are the worker's.
        job_id: of the job.
        root: only this task and what continues from it.
        counted: whether a chord counts the tasks; a job ends without as well.
    """
    job = lock_open_job(session, job_id)
    if job is None:
        return None
    job.dispatched_at = from_now()
    tracing.adopt(job.context)
    body = app.signature(FINALIZE, args=(str(job_id),), immutable=True) if counted else None
    plan, done = Plan.from_json(job.plan), ended_tasks(session, job_id)
    if len(done) == len(plan.tasks):
        end_if_through(session, job)  # a worker of an earlier version may have left it open
        return None
    return to_canvas(plan, _signatures(app, job_id), body=body, done=done, root=root)


def _signatures(app: Celery, job_id: UUID) -> Callable[[PlannedTask], Signature]:
    def signature(task: PlannedTask) -> Signature:
        return app.signature(task.name, args=(str(job_id), task.id), queue=task.queue, immutable=True)

    return signature


def sender(app: Celery) -> Callable[[Message], None]:
    """What the relay sends messages with: no result is kept, so that no result backend is asked."""

    def send(message: Message) -> None:
        app.send_task(
            message.task,
            args=message.args,
            queue=message.queue,
            task_id=message.task_id,
            ignore_result=True,
            retry=False,  # the row stays in the outbox
        )

    return send


def waiting_in(app: Celery) -> Callable[[str], int | None]:
    """How many messages of a queue nobody has taken yet; None when the broker does not tell."""

    def waiting(queue: str) -> int | None:
        try:
            with app.connection_for_read() as connection:
                return _length(connection, queue)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises; it is asked again soon
            log.warning("queue_length_unknown", extra={"queue": queue, "error": type(error).__name__})
            return None

    return waiting


def _length(connection: Connection, queue: str) -> int:
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:  # there is no such queue, so nothing waits in it
        return 0
