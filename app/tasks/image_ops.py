"""A task for each pixel operation. A linear run of operations is one task, that of the last operation."""

from celery.signals import worker_ready

from app.operations import OPERATIONS, Queue
from app.tasks import spare
from app.tasks.planned import task_of
from app.tasks.runtime import resources

TASKS = [task_of(operation) for operation in OPERATIONS.values() if operation.queue is Queue.DEFAULT]


@worker_ready.connect
def _warm(**_: object) -> None:
    """Start the pixel process now, so that small work does not wait for it."""
    if spare.is_one():
        resources().sandbox.warm()
