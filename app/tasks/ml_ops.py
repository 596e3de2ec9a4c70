"""The tasks of the ML queue. Each process of an ML worker loads the network once, before its first task."""

import os
from typing import Any

from celery.signals import celeryd_after_setup, worker_process_init

from app.errors import CannotStart
from app.operations import DENOISE, Queue
from app.tasks.planned import task_of
from app.tasks.runtime import resources

NICE = 10  # a network uses all cores that it can get; image workers on the same machine must not wait for it

_serves_ml: list[bool] = []  # set before the worker forks


denoise = task_of(DENOISE)


@celeryd_after_setup.connect
def _check(instance: Any, **_: object) -> None:
    """Refuse to start a worker that cannot run its tasks."""
    _serves_ml[:] = [Queue.ML.value in instance.app.amqp.queues.consume_from]
    if _serves_ml[0] and not resources().settings.embedded:
        try:
            resources().check_network()
        except CannotStart as error:
            raise SystemExit(error.message) from None


@worker_process_init.connect
def _load(**_: object) -> None:
    if _serves_ml and _serves_ml[0]:
        os.nice(NICE)
        resources().renderer(Queue.ML)
