"""Sends jobs, or the rest of them, to the broker, and reads the lengths of its queues."""

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from uuid import UUID

from celery import Celery
from celery.canvas import Signature
from kombu import Connection
from sqlalchemy.orm import Session

from app import tracing
from app.database import from_now
from app.operations import Queue
from app.services.dag_builder import INPUT, NARROW, Plan, PlannedTask, to_canvas
from app.services.finalizer import end_if_through, lock_open_job
from app.services.outbox import FINALIZE, Message
from app.services.scheduling import due
from app.services.scheduling.effort import Size, is_small, size_of
from app.services.scheduling.window import Depth, Depths
from app.services.steps import ended_tasks

log = logging.getLogger(__name__)

NOTHING = Depth(messages=0, workers=0)  # depth of a queue that does not exist


def canvas_for(
    session: Session, app: Celery, job_id: UUID, root: str | None, *, counted: bool = True, spare: bool = False
) -> Signature | None:
    """The Canvas of everything that a job still needs; None if it has ended or needs nothing.

    It is also None if so many tasks could run now that they have to wait for their turns; they are then made due.

    Sending a Canvas twice is harmless: the copy of a task that has ended, or that another worker holds, does nothing.

    Args:
        session: the transaction that records the dispatch.
        app: a Celery app, which may know the tasks only by name.
        job_id: id of the job.
        root: send only this task and its descendants; None: all.
        counted: whether a chord counts the tasks; a job also ends without one.
        spare: whether small tasks go to the small queue, for a spare process.
    """
    job = lock_open_job(session, job_id)
    if job is None:
        return None
    job.dispatched_at = from_now()
    tracing.adopt(job.context)
    queue = (Queue.SMALL if spare else Queue.DEFAULT).value
    body = app.signature(FINALIZE, args=(str(job_id),), queue=queue, immutable=True) if counted else None
    plan, done = Plan.from_json(job.plan), ended_tasks(session, job_id)
    if plan.fetches and INPUT not in done:
        body = None  # no chord: this Canvas is only the fetch, which does not end the job
    if len(done) == len(plan.tasks):
        end_if_through(session, job)  # a worker of an earlier version may have left the job open
        return None
    ready = _ready(plan, done, root)
    if len(ready) > NARROW:
        due.add_tasks(session, job, plan, ready)
        return None
    queue_of = partial(_queue_of, plan, size_of(job)) if spare else attrgetter("queue")
    return to_canvas(plan, _signatures(app, job_id, queue_of), body=body, done=done, root=root)


def _ready(plan: Plan, done: Collection[str], root: str | None) -> list[PlannedTask]:
    ready = plan.ready(done)
    if root is None:
        return ready
    below = {root, *(task.id for task in plan.descendants(root))}
    return [task for task in ready if task.id in below]


def _queue_of(plan: Plan, size: Size | None, task: PlannedTask) -> str:
    return Queue.SMALL.value if is_small(plan, task, size) else task.queue


def _signatures(
    app: Celery, job_id: UUID, queue_of: Callable[[PlannedTask], str]
) -> Callable[[PlannedTask], Signature]:
    def signature(task: PlannedTask) -> Signature:
        return app.signature(task.name, args=(str(job_id), task.id), queue=queue_of(task), immutable=True)

    return signature


def sender(app: Celery) -> Callable[[Message], None]:
    """A function that sends messages, for the relay. Results are ignored, so that no result backend is needed."""

    def send(message: Message) -> None:
        app.send_task(
            message.task,
            args=message.args,
            queue=message.queue,
            task_id=message.task_id,
            ignore_result=True,
            retry=False,  # the relay retries: the row stays in the outbox
        )

    return send


def waiting_in(app: Celery) -> Callable[[str], int | None]:
    """A function that counts the waiting messages of a queue, and returns None if the broker does not answer.

    In a small queue without consumers, messages are not counted: they are sent again, to the other queue.
    """

    def waiting(queue: str) -> int | None:
        try:
            with app.connection_for_read() as connection:
                depth = depth_of(connection, queue)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises; it is asked again soon
            log.warning("queue_length_unknown", extra={"queue": queue, "error": type(error).__name__})
            return None
        is_orphaned = queue == Queue.SMALL.value and not depth.workers and connection.transport.driver_type == "amqp"
        return 0 if is_orphaned else depth.messages

    return waiting


def depth_of(connection: Connection, queue: str) -> Depth:
    """The state of a queue. A new broker has no queues before the first worker or message: they are empty."""
    try:
        with connection.channel() as channel:  # a separate one: the broker closes it when there is no such queue
            declared = channel.queue_declare(queue, passive=True)
            return Depth(messages=int(declared.message_count), workers=int(declared.consumer_count))
    except connection.channel_errors:
        return NOTHING


class QueueLook:
    """Reads the depths of the window's queues, over a connection that it keeps."""

    def __init__(self, app: Celery, *, is_alone: bool) -> None:
        """Set up without connecting.

        Args:
            app: the Celery app, with the address of the broker.
            is_alone: whether the broker and one worker for each queue run in this process.
        """
        self._app = app
        self._is_alone = is_alone
        self._connection: Connection | None = None

    def __call__(self) -> Depths | None:
        try:
            return self._all()
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            log.debug("queues_not_seen", extra={"error": type(error).__name__})
            self._close()
        try:  # a connection that was idle may have been closed meanwhile
            return self._all()
        except Exception as error:  # noqa: BLE001
            log.warning("queue_length_unknown", extra={"error": type(error).__name__})
            self._close()
            return None

    def _all(self) -> Depths:
        if self._connection is None:
            self._connection = self._app.connection_for_read()
        depths = {lane.queue.value: depth_of(self._connection, lane.queue.value) for lane in due.LANES}
        return {name: replace(depth, workers=1) for name, depth in depths.items()} if self._is_alone else depths

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.release()
