"""Reads the dead letter queue: each message is written down in the database, and only then taken from the broker."""

import json
import logging
import threading
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Message
from sqlalchemy.exc import SQLAlchemyError

from app import metrics
from app.database import Database
from app.services import dead_letters
from app.services.dead_letters import POISON, Letter
from app.tasks.celery_app import dead_letter_queue

log = logging.getLogger(__name__)

PAUSE = 2.0  # seconds before another try at a broker or a database that is away
LISTEN = 1.0  # seconds between two looks at whether to stop
MAX_TEXT = 200  # characters kept of what cannot be understood


class DeadLetterReader:
    """Reads in a thread of its own; several processes may do so at once."""

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
                with self._app.connection_for_read() as connection:
                    self._listen(connection)
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises; it is tried again
                log.warning("dead_letters_broker_unavailable", extra={"error": type(error).__name__})
                self._stopping.wait(PAUSE)

    def _listen(self, connection: Connection) -> None:
        queue = dead_letter_queue(durable=connection.transport.driver_type == "amqp")
        with connection.channel() as channel:
            bound = queue(channel)
            bound.declare()
            with Consumer(channel, [bound], on_message=self._receive, prefetch_count=10):
                while not self._stopping.is_set():
                    self._drain(connection)

    def _drain(self, connection: Connection) -> None:
        try:
            connection.drain_events(timeout=LISTEN)
        except TimeoutError:
            connection.heartbeat_check()

    def _receive(self, message: Message) -> None:
        try:
            letter = read(message)
            with self._database.session() as session:
                dead_letters.receive(session, letter)
        except SQLAlchemyError as error:
            log.warning("dead_letters_database_unavailable", extra={"error": type(error).__name__})
            self._stopping.wait(PAUSE)
            message.requeue()
            return
        message.ack()
        metrics.DEAD_LETTERS.labels(metrics.known(letter.reason, metrics.DEAD_LETTER_REASONS)).inc()
        log.error("dead_letter", extra={"letter_id": letter.id, "reason": letter.reason, "task": letter.task})


def read(message: Message) -> Letter:
    """What a message says; one that nobody understands is a letter all the same."""
    headers: dict[str, Any] = message.headers or {}
    deaths: list[dict[str, Any]] = headers.get("x-death") or [{}]
    return Letter(
        id=str(headers.get("id") or message.properties.get("correlation_id") or message.delivery_tag)[:64],
        reason=str(headers.get("reason") or deaths[0].get("reason") or POISON)[:64],
        queue=str(deaths[0].get("queue") or "")[:64],
        task=str(headers.get("task") or "")[:128],
        args=_args(message),
    )


def _args(message: Message) -> list[Any]:
    body: Any = message.body
    try:
        (args, *_rest) = json.loads(body)
        return list(args)
    except (ValueError, TypeError):
        return [str(body)[:MAX_TEXT]]
