"""Sending what is left of a job to the broker."""

from collections.abc import Callable
from uuid import UUID

from celery import Celery
from celery.canvas import Signature
from sqlalchemy.orm import Session

from app import tracing
from app.database import from_now
from app.services.dag_builder import Plan, PlannedTask, to_canvas
from app.services.outbox import FINALIZE, Message
from app.services.steps import ended_tasks, lock_job


def canvas_for(session: Session, app: Celery, job_id: UUID, root: str | None) -> Signature | None:
    """The Canvas of everything that a job still needs; None when it has ended or needs nothing.

    Sending one twice is harmless: a task that has ended, or that another worker holds, is left alone by its copy.

    Args:
        session: the transaction that notes the dispatch.
        app: knows the tasks by name only; their modules are the worker's.
        job_id: of the job.
        root: only this task and what continues from it.
    """
    job = lock_job(session, job_id)
    if job is None:
        return None
    job.dispatched_at = from_now()
    tracing.adopt(job.context)
    body = app.signature(FINALIZE, args=(str(job_id),), immutable=True)
    plan = Plan.from_json(job.plan)
    return to_canvas(plan, _signatures(app, job_id), body=body, done=ended_tasks(session, job_id), root=root)


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
