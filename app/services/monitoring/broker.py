"""What the broker knows of the queues, asked for by AMQP alone: no plugin is needed for it."""

from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound
from kombu import Connection

from app.operations import DEAD_LETTER_QUEUE, Queue

CONNECT_TIMEOUT = 2  # seconds
ANSWER_TIMEOUT = 2  # seconds


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """One queue."""

    #: that wait for a worker
    messages: int
    #: that take messages from it
    workers: int


def queue_states(url: str) -> dict[str, QueueState]:
    """Every queue of PixTools that exists; a new broker has none until a worker or a message comes."""
    options = {"read_timeout": ANSWER_TIMEOUT, "write_timeout": ANSWER_TIMEOUT}
    with Connection(url, connect_timeout=CONNECT_TIMEOUT, transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT)
        states = {name: _state(connection, name) for name in (*(queue.value for queue in Queue), DEAD_LETTER_QUEUE)}
    return {name: state for name, state in states.items() if state is not None}


def _state(connection: Any, name: str) -> QueueState | None:
    # a channel of its own: the broker closes it when there is no such queue
    channel = connection.channel()
    try:
        declared = channel.queue_declare(queue=name, passive=True)
    except NotFound:
        return None
    channel.close()
    return QueueState(messages=declared.message_count, workers=declared.consumer_count)
