"""Messages to the broker, sent after the transaction that they announce has committed.

A message about a row that can be found again (a job, a delivery) is sent directly by the process that committed the
row. If that process dies first, the reconciler finds the row and sends its message. Any other message is a row of the
outbox, which a relay sends and then deletes. A message that could not be sent, or that is due later, is a row as well.
Work for which the broker has no room is not a message yet: it waits for its turn as a row of `due.py`.

No request ever publishes a message, since a broker in alarm would block it. After a crash between sending and deleting,
a message is sent twice; every task tolerates that.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4, uuid5

from opentelemetry.trace import SpanKind
from sqlalchemy import ColumnElement, delete, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics, tracing
from app.backoff import Backoff
from app.database import Database, after_commit, from_now, hooks_of
from app.models import OutboxMessage
from app.operations import Queue

log = logging.getLogger(__name__)

CHANNEL = "pixtools_outbox"  # PostgreSQL's NOTIFY
BATCH = 50  # messages
SENDING_SECONDS = 20  # duration of a claim, after which another relay may send the message; a send gives up after 10
RETRIES = Backoff(first=2.0, longest=30.0)  # pauses after failed sends; the relay retries until the broker is back
UNSENT_SECONDS = 30.0  # age at which a job or delivery that has not begun may have lost its message
TASK_IDS = UUID("0f5b7a0e-6a0c-5e0e-9d3e-2d7f0c1b8a11")  # namespace of task ids

START_JOB = "pixtools.start_job"
FINALIZE = "pixtools.finalize"
DELIVER_WEBHOOK = "pixtools.deliver_webhook"
REPLAY_WEBHOOKS = "pixtools.replay_webhooks"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message to the broker."""

    task: str
    args: list[Any]
    queue: str
    #: trace context of its writer
    context: dict[str, str] | None = None
    #: the same for every copy of this message
    task_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, kw_only=True)
class StoredMessage(Message):
    """A message that is a row of the outbox."""

    #: id of its row
    id: int


Send = Callable[[Message], None]


def start_args(job_id: UUID, root: str | None = None, *, small: bool = False) -> list[Any]:
    """The arguments of `START_JOB`.

    Args:
        job_id: id of the job.
        root: start only this task and its descendants; None: the whole job.
        small: whether small tasks go to the small queue, in which places are reserved for them.
    """
    if small:
        return [str(job_id), root, small]
    return [str(job_id)] if root is None else [str(job_id), root]


def send_after_commit(session: Session, task: str, args: Sequence[Any], *, queue: str = Queue.DEFAULT.value) -> None:
    """Have this process send a message as soon as the transaction has committed.

    This is only for messages that the reconciler can restore from another row, since the message is not stored.

    Args:
        session: the transaction that the message belongs to.
        task: Celery's name of the task.
        args: arguments of the task, only ids.
        queue: name of the queue.
    """
    take_over = hooks_of(session).take_over
    if take_over is None:
        enqueue(session, task, args, queue=queue)
        return
    message = Message(task=task, args=list(args), queue=queue, context=tracing.carrier() or None)
    after_commit(session, partial(take_over, message))


def enqueue(
    session: Session, task: str, args: Sequence[Any], *, delay: float = 0, queue: str = Queue.DEFAULT.value
) -> None:
    """Write a message to the outbox; relays are notified when this transaction commits.

    Args:
        session: the transaction that the message belongs to.
        task: Celery's name of the task.
        args: arguments of the task, only ids.
        delay: seconds until the message is sent.
        queue: name of the queue.
    """
    session.add(
        OutboxMessage(
            task=task,
            args=list(args),
            queue=queue,
            created_at=from_now(),
            available_at=from_now(delay),
            attempts=0,
            context=tracing.carrier() or None,
        )
    )
    session.flush()
    if delay:
        return  # the relay's next poll is early enough
    wake_relays(session)


def wake_relays(session: Session) -> None:
    """Notify the relays of all processes of new messages, after the commit of this transaction."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"NOTIFY {CHANNEL}"))
    after_commit(session, hooks_of(session).wake.set)


def publish(send: Send, message: Message) -> bool:
    """Send one message; returns False if the broker has not accepted it."""
    with tracing.continued(message.context or {}, f"send {message.task}", SpanKind.PRODUCER) as span:
        try:
            send(message)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: it is sent later
            tracing.fail(span, type(error).__name__)
            fields = {"celery_task": message.task, "arguments": message.args, "error": type(error).__name__}
            log.warning("outbox_send_failed", extra=fields)
            sent = False
        else:
            log.debug("message_sent", extra={"celery_task": message.task, "arguments": message.args})
            sent = True
    metrics.OUTBOX_MESSAGES.labels("sent" if sent else "failed").inc()
    return sent


def keep(database: Database, messages: Sequence[Message]) -> None:
    """Store messages that could not be sent; a relay sends them once the broker is back."""
    rows = [
        OutboxMessage(
            task=message.task,
            args=message.args,
            queue=message.queue,
            created_at=from_now(),
            available_at=from_now(RETRIES.first),
            attempts=1,
            context=message.context,
        )
        for message in messages
    ]
    with database.session() as session:
        session.add_all(rows)


def kept_now() -> ColumnElement[bool]:
    """A condition for messages that are due or will be retried soon, but not for those that are due later."""
    return OutboxMessage.available_at < from_now(RETRIES.longest)


def subjects(session: Session) -> set[str]:
    """The ids of jobs, deliveries and replays that have a message by the condition `kept_now`."""
    return {str(args[0]) for args in session.scalars(select(OutboxMessage.args).where(kept_now())) if args}


@dataclass
class DirectSender:
    """Sends the messages of a worker in the thread that has committed them."""

    database: Database
    send: Send
    #: end of a pause after a failed send, on the monotonic clock; until then messages go straight to the outbox
    _away_until: float = 0.0

    def __call__(self, message: Message) -> None:
        if time.monotonic() < self._away_until:
            keep(self.database, [message])
        elif not publish(self.send, message):
            self._away_until = time.monotonic() + RETRIES.first
            keep(self.database, [message])


class Relay:
    """Sends the rows of the outbox in one thread, and messages that this process has committed in another."""

    def __init__(
        self, database: Database, send: Send, *, poll_seconds: float, on_wake: Callable[[], None] = lambda: None
    ) -> None:
        """Set up without starting the threads.

        Args:
            database: database with the outbox.
            send: sends a message to the broker.
            poll_seconds: seconds between two polls without a notification.
            on_wake: called when any process has written a message, and at each poll.
        """
        self._on_wake = on_wake
        self._database = database
        self._send = send
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)
        self._taken: SimpleQueue[Message | None] = SimpleQueue()  # None: no more will come
        self._sender = threading.Thread(target=self._send_taken, name="outbox-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._sender.start()
        self._database.hooks.take_over = self._taken.put

    def stop(self, timeout: float = 5.0) -> None:
        self._database.hooks.take_over = None
        self._taken.put(None)
        self._stopping.set()
        self._database.hooks.wake.set()
        self._thread.join(timeout)
        self._sender.join(timeout)

    def _send_taken(self) -> None:
        """Send the messages that are not rows of the outbox; if this process dies, the reconciler restores them."""
        while batch := self._next_taken():
            try:
                sent = self._send_in_order(batch)
                if unsent := batch[sent:]:
                    keep(self._database, [*unsent, *self._rest()])
            except SQLAlchemyError as error:
                log.warning("outbox_database_unavailable", extra={"error": type(error).__name__})
            except Exception:
                log.exception("outbox_sender_failed")

    def _next_taken(self) -> list[Message]:
        """Wait for a message; returns it with all that have come meanwhile, or nothing when the relay stops."""
        batch: list[Message] = []
        while not batch or (len(batch) < BATCH and not self._taken.empty()):
            message = self._taken.get()
            if message is None:
                self._taken.put(None)  # the next call has to see it too
                break
            batch.append(message)
        return batch

    def _rest(self) -> Iterator[Message]:
        """The messages that came during a failed send; they are not sent now, since the broker is away."""
        for _ in range(self._taken.qsize()):
            message = self._taken.get()
            if message is None:
                self._taken.put(None)  # the next call has to see it too
                return
            yield message

    def _run(self) -> None:
        with self._waiting() as wait:
            while not self._stopping.is_set():
                self._database.hooks.wake.clear()
                self._on_wake()
                try:
                    while self.run_once() == BATCH and not self._stopping.is_set():
                        pass
                except SQLAlchemyError as error:
                    log.warning("outbox_database_unavailable", extra={"error": type(error).__name__})
                except Exception:  # a thread that died would look like one with nothing to do
                    log.exception("outbox_relay_failed")
                wait(self._poll_seconds)

    @contextmanager
    def _waiting(self) -> Iterator[Callable[[float], None]]:
        if self._database.is_sqlite:
            yield self._wait_local
        else:
            with closing(_PostgresWait(self._database)) as wait:
                yield wait

    def _wait_local(self, seconds: float) -> None:
        self._database.hooks.wake.wait(seconds)

    def run_once(self) -> int:
        """Send a batch of messages from the outbox; returns its size."""
        messages = self._claim()
        self._send_all(messages)
        return len(messages)

    def _send_all(self, messages: list[StoredMessage]) -> None:
        sent = self._send_in_order(messages)
        if sent:
            ids = [message.id for message in messages[:sent]]
            with self._database.session() as session:
                session.execute(delete(OutboxMessage).where(OutboxMessage.id.in_(ids)))
        if sent < len(messages):
            self._postpone(messages[sent].id)
        self._release([message.id for message in messages[sent + 1 :]])

    def _send_in_order(self, messages: Sequence[Message]) -> int:
        """Send messages until the broker does not accept one; returns the number of accepted messages."""
        for sent, message in enumerate(messages):
            if not publish(self._send, message):
                return sent
        return len(messages)

    def _claim(self) -> list[StoredMessage]:
        if self._database.is_sqlite and not self._has_due():
            return []
        due = (
            select(OutboxMessage.id)
            .where(OutboxMessage.available_at <= from_now())
            .order_by(OutboxMessage.available_at, OutboxMessage.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
            .cte("due")  # a CTE is evaluated once, in any query plan
        )
        # a single statement, since its duration delays every job
        claim = (
            update(OutboxMessage)
            .where(OutboxMessage.id.in_(select(due.c.id)))
            .values(attempts=OutboxMessage.attempts + 1, available_at=from_now(SENDING_SECONDS))
            .returning(
                OutboxMessage.id, OutboxMessage.task, OutboxMessage.args, OutboxMessage.queue, OutboxMessage.context
            )
            .execution_options(synchronize_session=False)
        )
        with self._database.session() as session:
            rows = session.execute(claim).mappings().all()
        stored = (StoredMessage(**row, task_id=str(uuid5(TASK_IDS, str(row["id"])))) for row in rows)
        return sorted(stored, key=attrgetter("id"))

    def _has_due(self) -> bool:
        # a read first: polling an empty outbox must not take SQLite's write lock
        with self._database.session(read_only=True) as session:
            due = select(OutboxMessage.id).where(OutboxMessage.available_at <= from_now()).limit(1)
            return session.scalar(due) is not None

    def _postpone(self, message_id: int) -> None:
        with self._database.session() as session:
            attempts = session.scalar(select(OutboxMessage.attempts).where(OutboxMessage.id == message_id)) or 1
            postponed = update(OutboxMessage).where(OutboxMessage.id == message_id)
            session.execute(postponed.values(available_at=from_now(RETRIES.pause(attempts))))

    def _release(self, message_ids: list[int]) -> None:
        """Postpone the messages after a failed send; each of them would wait for the same broker in vain."""
        if message_ids:
            put_off = update(OutboxMessage).where(OutboxMessage.id.in_(message_ids))
            untried = {"attempts": OutboxMessage.attempts - 1, "available_at": from_now(RETRIES.first)}
            with self._database.session() as session:
                session.execute(put_off.values(untried))


class _PostgresWait:
    """Waits for a NOTIFY of PostgreSQL; without a connection it simply sleeps."""

    def __init__(self, database: Database) -> None:
        import psycopg  # noqa: PLC0415 - of the extra `cluster`

        self._driver = psycopg
        self._url = database.url().set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: psycopg.Connection[Any] | None = None

    def __call__(self, seconds: float) -> None:
        try:
            if self._connection is None:
                self._connection = self._driver.connect(self._url, autocommit=True, connect_timeout=5)
                self._connection.execute(f"LISTEN {CHANNEL}")
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass
        except self._driver.Error:
            self.close()
            time.sleep(seconds)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
