"""The resources that the tasks of this process share."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery.exceptions import Reject
from kombu.exceptions import OperationalError as BrokerAway

from app.config import current
from app.database_errors import DATABASE_ERRORS, is_away
from app.services.dispatch import sender
from app.services.outbox import DirectSender
from app.tasks import drain
from app.tasks.celery_app import celery_app
from app.wiring import Resources

_shared: list[Resources] = []


def use(resources: Resources) -> None:
    """Make tasks use the resources of the process in which they are embedded."""
    _shared[:] = [resources]


def resources() -> Resources:
    """The resources. They are created by the first task, so never before the fork of a worker's child."""
    if not _shared:
        own = Resources(current(), drain.is_over)
        own.database.hooks.take_over = DirectSender(own.database, sender(celery_app))
        use(own)
    return _shared[0]


@contextmanager
def undone_when_cut_off() -> Iterator[None]:
    """Return the message to the broker if the database is away for too long, or the broker takes no messages.

    Otherwise Celery would acknowledge the message, and the job would wait until the reconciler finds it.
    """
    try:
        yield
    except (*DATABASE_ERRORS, BrokerAway) as error:
        if not isinstance(error, BrokerAway) and not is_away(error):
            raise  # a repetition would fail in the same way
        raise Reject(error, requeue=True) from error
