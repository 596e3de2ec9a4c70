"""Reads the dead letter queue; each message is removed from the broker only after it is stored in the database."""

import hashlib
import json
import logging
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Message

from app import metrics
from app.database import Database
from app.services import dead_letters
from app.services.dead_letters import POISON, Letter
from app.tasks.celery_app import dead_letter_queue

log = logging.getLogger(__name__)

PAUSE = 2.0  # seconds before another try at a broker or a database that is away
LISTEN = 1.0  # seconds between two checks whether to stop
MAX_TEXT = 200  # characters kept of a value that cannot be understood
MAX_JSON = 2000  # characters of arguments


class DeadLetterReader:
    """Reads dead letters in a separate thread; several processes may do so at once."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app = app
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead-letters", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._app.connection_for_read(heartbeat=self._app.conf.broker_heartbeat) as connection:
                    self._listen(connection)
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises; it is tried again
                log.warning("dead_letters_broker_unavailable", extra={"error": type(error).__name__})
                self._stopping.wait(PAUSE)

    def _listen(self, connection: Connection) -> None:
        queue = dead_letter_queue(durable=connection.transport.driver_type == "amqp")
        with connection.channel() as channel:
            bound = queue(channel)
            bound.declare()
            with Consumer(channel, [bound], on_message=partial(self._receive, connection), prefetch_count=10):
                while not self._stopping.is_set():
                    self._drain(connection)

    def _drain(self, connection: Connection) -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=LISTEN)
        connection.heartbeat_check()

    def _receive(self, connection: Connection, message: Message) -> None:
        def stop() -> bool:
            connection.heartbeat_check()
            return self._stopping.is_set()

        letter = read(message)
        # not given back while the database is away: RabbitMQ 4 drops what comes back too often
        self._database.retry(dead_letters.receive, stop, letter)
        message.ack()
        metrics.DEAD_LETTERS.labels(metrics.known(letter.reason, metrics.DEAD_LETTER_REASONS)).inc()
        log.error("dead_letter", extra={"letter_id": letter.id, "reason": letter.reason, "task": letter.task})


def read(message: Message) -> Letter:
    """The letter in a message; a message that cannot be read is a letter as well."""
    headers: dict[str, Any] = message.headers or {}
    deaths: list[dict[str, Any]] = headers.get("x-death") or [{}]
    return Letter(
        id=_text(headers.get("id") or message.properties.get("correlation_id") or _digest(message), 64),
        reason=_text(headers.get("reason") or deaths[0].get("reason") or POISON, 64),
        queue=_text(deaths[0].get("queue") or "", 64),
        task=_text(headers.get("task") or "", 128),
        args=_args(message),
    )


def _text(value: object, length: int) -> str:
    return str(value).replace("\0", "")[:length]  # PostgreSQL refuses NUL


def _digest(message: Message) -> str:
    """An id for a message that has none: the same for every copy of it."""
    body: Any = message.body
    return hashlib.sha256(body if isinstance(body, bytes) else str(body).encode()).hexdigest()


def _args(message: Message) -> list[Any]:
    body: Any = message.body
    try:
        (args, *_rest) = json.loads(body)
        if _is_storable(args):
            return list(args)
    except (ValueError, TypeError, RecursionError):
        pass
    return [_text(body, MAX_TEXT)]


def _is_storable(args: object) -> bool:
    """Whether a value is short, and PostgreSQL accepts it as JSON: without NaN and NUL."""
    text = json.dumps(args, allow_nan=False)
    return isinstance(args, list) and "\\u0000" not in text and len(text) <= MAX_JSON
