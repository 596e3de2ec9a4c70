"""The lengths of the broker's queues, read by AMQP alone, without a plugin."""

from kombu import Connection

from app.operations import DEAD_LETTER_QUEUE, Queue
from app.services.dispatch import depth_of
from app.services.scheduling.window import Depth

CONNECT_TIMEOUT = 2  # seconds
ANSWER_TIMEOUT = 2  # seconds


def queue_depths(url: str) -> dict[str, Depth]:
    """The depths of all queues of PixTools, also of those that the broker does not have yet."""
    options = {"read_timeout": ANSWER_TIMEOUT, "write_timeout": ANSWER_TIMEOUT}
    with Connection(url, connect_timeout=CONNECT_TIMEOUT, transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT)
        return {name: depth_of(connection, name) for name in (*(queue.value for queue in Queue), DEAD_LETTER_QUEUE)}
