"""The declaration of all queues, which every worker repeats on each of its connections to the broker.

Celery declares only the queues that a worker consumes. The others must exist too: an autoscaler asks for the length of
queues without workers, and RabbitMQ drops what it gives up if there is no queue of dead letters. The broker may be away
when a worker starts, and may come back without its data.
"""

import logging
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.delayed_delivery import DelayedDelivery

log = logging.getLogger(__name__)


class Declaration(bootsteps.StartStopStep):  # type: ignore[misc]  # untyped base
    """Declares all queues as soon as there is a connection. If that is lost, Celery connects and starts it again."""

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        """Declare all queues; one that exists with other arguments is left as it is."""
        connection = consumer.connection
        for queue in consumer.app.conf.task_queues:
            try:
                with connection.channel() as channel:  # a separate one: the broker closes it when it refuses
                    queue(channel).declare()
            except connection.channel_errors as error:
                log.warning("queue_not_declared", extra={"queue": queue.name, "error": type(error).__name__})


def add_to(app: Celery) -> None:
    """Make the workers of this app declare all queues, and bind them to Celery's delay exchanges only after that."""
    app.steps["consumer"].add(Declaration)
    DelayedDelivery.requires = (*DelayedDelivery.requires, Declaration)
