"""The outbox: messages are sent once or again, in order, at once and without one broker stopping all."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from app.backoff import Backoff
from app.database import Database, from_now
from app.models import (
    OutboxMessage,
)
from app.services import outbox
from app.services.outbox import START_JOB, Message, Relay
from tests.support.waiting import until
from tests.support.work import (
    ON_POSTGRESQL,
    PATIENCE,
    change,
    crash_after,
    in_parallel,
    messages,
)


@dataclass
class Broker:
    """Keeps what it is sent, unless it is down."""

    down: bool = False
    sent: list[Message] = field(default_factory=list)

    def __call__(self, message: Message) -> None:
        if self.down:
            raise ConnectionError("refused")
        self.sent.append(message)


def enqueue(database: Database, *numbers: int, delay: float = 0) -> None:
    with database.session() as session:
        for number in numbers:
            outbox.enqueue(session, START_JOB, [number], delay=delay)


def outbox_rows(database: Database) -> list[OutboxMessage]:
    with database.session(read_only=True) as session:
        return list(session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))


def test_the_relay_sends_in_order_and_forgets_what_is_sent(database: Database) -> None:
    broker = Broker()
    relay = Relay(database, broker, poll_seconds=1)
    assert relay.run_once() == 0
    enqueue(database, 1, 2, 3)
    assert relay.run_once() == 3
    assert [(message.task, message.args, message.queue) for message in broker.sent] == [
        (START_JOB, [number], "default_queue") for number in (1, 2, 3)
    ]
    assert len({message.task_id for message in broker.sent}) == 3
    assert outbox_rows(database) == []
    assert relay.run_once() == 0


def test_the_relay_sends_a_batch_at_a_time(database: Database) -> None:
    broker = Broker()
    enqueue(database, *range(outbox.BATCH + 7))
    relay = Relay(database, broker, poll_seconds=1)
    assert [relay.run_once() for _ in range(3)] == [outbox.BATCH, 7, 0]
    assert [message.args for message in broker.sent] == [[number] for number in range(outbox.BATCH + 7)]


def test_a_message_waits_for_its_time(database: Database) -> None:
    enqueue(database, 1, delay=60)
    assert Relay(database, Broker(), poll_seconds=1).run_once() == 0
    assert len(outbox_rows(database)) == 1


def test_a_message_that_cannot_be_sent_is_kept_and_sent_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RETRIES", Backoff(first=100, longest=1000))
    broker = Broker(down=True)
    relay = Relay(database, broker, poll_seconds=1)
    enqueue(database, 1)
    (created,) = outbox_rows(database)

    pauses = []
    for attempts in (1, 2, 3):
        with database.session(read_only=True) as session:
            began = session.scalars(select(from_now())).one()
        assert relay.run_once() == 1
        assert relay.run_once() == 0
        (row,) = outbox_rows(database)
        assert row.attempts == attempts
        pauses.append((row.available_at - began).total_seconds())
        change(database, update(OutboxMessage).values(available_at=from_now()))
    assert all(least <= pause < least + 50 for pause, least in zip(pauses, (100, 200, 400), strict=True))

    broker.down = False
    assert relay.run_once() == 1
    assert [message.id for message in broker.sent] == [created.id]
    assert outbox_rows(database) == []


def test_one_message_finds_out_for_its_batch_that_the_broker_is_away(database: Database) -> None:
    broker = Broker(down=True)
    enqueue(database, 1, 2, 3)
    assert Relay(database, broker, poll_seconds=1).run_once() == 3
    assert [row.attempts for row in outbox_rows(database)] == [1, 0, 0]
    assert Relay(database, broker, poll_seconds=1).run_once() == 0

    broker.down = False
    change(database, update(OutboxMessage).values(available_at=from_now()))
    assert Relay(database, broker, poll_seconds=1).run_once() == 3
    assert sorted(message.args[0] for message in broker.sent) == [1, 2, 3]


def test_a_relay_lives_through_what_nobody_thought_of(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=0.1)
    run_once = relay.run_once
    failures = iter([MemoryError(), ValueError()])

    def surprising() -> int:
        for failure in failures:
            raise failure
        return run_once()

    monkeypatch.setattr(relay, "run_once", surprising)
    relay.start()
    try:
        enqueue(database, 1)
        assert sent.wait(PATIENCE)
    finally:
        relay.stop()


def test_every_copy_of_a_message_has_the_same_task_id(database: Database) -> None:
    enqueue(database, 1)
    copies: list[Message] = []

    def unconfirmed(message: Message) -> None:
        copies.append(message)
        raise ConnectionError("the broker has it, or not")

    for _ in range(2):
        assert Relay(database, unconfirmed, poll_seconds=1).run_once() == 1
        change(database, update(OutboxMessage).values(available_at=from_now()))
    assert copies[0].task_id == copies[1].task_id
    assert UUID(copies[0].task_id)


def test_a_message_of_a_relay_that_died_is_sent_by_another(database: Database) -> None:
    class Killed(BaseException):
        pass

    def die(_message: Message) -> None:
        raise Killed

    enqueue(database, 1)
    with pytest.raises(Killed):
        Relay(database, die, poll_seconds=1).run_once()
    broker = Broker()
    other = Relay(database, broker, poll_seconds=1)
    assert other.run_once() == 0
    change(database, update(OutboxMessage).values(available_at=from_now()))
    assert other.run_once() == 1
    assert [message.args for message in broker.sent] == [[1]]


def test_two_relays_do_not_send_the_same_message_at_the_same_time(database: Database) -> None:
    enqueue(database, *range(120))
    brokers = [Broker(), Broker()]

    def drain(broker: Broker) -> None:
        relay = Relay(database, broker, poll_seconds=1)
        while relay.run_once():
            pass

    in_parallel([lambda broker=broker: drain(broker) for broker in brokers])
    drain(brokers[0])
    sent = [message.args[0] for broker in brokers for message in broker.sent]
    assert sorted(sent) == list(range(120))
    assert outbox_rows(database) == []


def test_a_relay_leaves_alone_what_another_one_is_sending(database: Database) -> None:
    enqueue(database, 1)
    seen: list[int] = []

    def send(_message: Message) -> None:
        seen.append(Relay(database, Broker(), poll_seconds=1).run_once())

    assert Relay(database, send, poll_seconds=1).run_once() == 1
    assert seen == [0]


def test_a_commit_wakes_the_relay_and_a_rollback_does_not(database: Database) -> None:
    crash_after(database, lambda session: outbox.enqueue(session, START_JOB, [1]))
    assert not database.hooks.wake.is_set()
    assert outbox_rows(database) == []
    enqueue(database, 2)
    assert database.hooks.wake.is_set()


def test_a_running_relay_sends_at_once_what_is_committed(database: Database) -> None:
    sent = threading.Event()
    with running(Relay(database, lambda _: sent.set(), poll_seconds=60), database):
        enqueue(database, 1)
        assert sent.wait(PATIENCE)
    assert outbox_rows(database) == []


@ON_POSTGRESQL
def test_a_running_relay_sends_at_once_what_another_process_commits(database: Database) -> None:
    sent = threading.Event()
    other = Database(database.url().render_as_string(hide_password=False))
    with running(Relay(database, lambda _: sent.set(), poll_seconds=60), database):
        enqueue(other, 1)
        assert sent.wait(PATIENCE)
    other.close()


def send_after_commit(database: Database, *numbers: int) -> None:
    with database.session() as session:
        for number in numbers:
            outbox.send_after_commit(session, START_JOB, [number])


def test_what_another_row_stands_for_is_sent_without_a_row_of_the_outbox(database: Database) -> None:
    broker = Broker()
    with running(Relay(database, broker, poll_seconds=60), database):
        crash_after(database, lambda session: outbox.send_after_commit(session, START_JOB, [0]))
        send_after_commit(database, 1)
        assert until(lambda: [message.args for message in broker.sent] == [[1]])
        assert outbox_rows(database) == []


def test_what_cannot_be_sent_at_once_is_written_down_and_sent_later(database: Database) -> None:
    with running(Relay(database, Broker(down=True), poll_seconds=60), database):
        send_after_commit(database, 1, 2)
        assert until(lambda: len(outbox_rows(database)) == 2)
    assert all(row.available_at > row.created_at for row in outbox_rows(database)), "the broker gets time to come back"
    change(database, update(OutboxMessage).values(available_at=from_now()))
    heir = Broker()
    assert Relay(database, heir, poll_seconds=1).run_once() == 2
    assert [message.args for message in heir.sent] == [[1], [2]]


def test_without_a_relay_every_message_is_a_row(database: Database) -> None:
    send_after_commit(database, 1)
    assert messages(database) == [(START_JOB, [1], 0)]


def test_a_worker_sends_what_it_has_committed_and_writes_down_what_it_cannot_send(database: Database) -> None:
    broker = Broker()
    database.hooks.take_over = outbox.DirectSender(database, broker)
    send_after_commit(database, 1)
    assert [message.args for message in broker.sent] == [[1]]
    broker.down = True
    send_after_commit(database, 2)
    database.hooks.take_over = None
    assert messages(database) == [(START_JOB, [2], 2)]


def test_a_worker_waits_once_for_a_broker_that_takes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send takes ten seconds then, and one transaction may have many messages."""
    monkeypatch.setattr(outbox, "RETRIES", Backoff(first=60, longest=60))
    broker, tried = Broker(down=True), []

    def send(message: Message) -> None:
        tried.append(message.args)
        broker(message)

    sender = database.hooks.take_over = outbox.DirectSender(database, send)
    try:
        send_after_commit(database, 1, 2, 3)
        assert tried == [[1]]
        sender._away_until -= 60
        broker.down = False
        send_after_commit(database, 4)
    finally:
        database.hooks.take_over = None
    assert tried == [[1], [4]]
    assert [args for _, args, _ in messages(database)] == [[1], [2], [3]]


def test_what_comes_while_the_broker_takes_nothing_is_written_down_after_one_failed_send(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RETRIES", Backoff(first=60, longest=60))
    release, tried = threading.Event(), []

    def send(message: Message) -> None:
        tried.append(message.args)
        release.wait(PATIENCE)
        raise ConnectionError("blocked")

    with running(Relay(database, send, poll_seconds=60), database):
        send_after_commit(database, 0)
        assert until(lambda: tried == [[0]])
        send_after_commit(database, *range(1, 3 * outbox.BATCH))
        release.set()
        assert until(lambda: len(outbox_rows(database)) == 3 * outbox.BATCH)
        assert tried == [[0]]
    assert [row.args for row in outbox_rows(database)] == [[number] for number in range(3 * outbox.BATCH)]


def test_a_relay_that_stops_sends_what_was_committed_before(database: Database) -> None:
    broker = Broker()
    with running(Relay(database, broker, poll_seconds=60), database):
        send_after_commit(database, *range(3 * outbox.BATCH))
    assert [message.args for message in broker.sent] == [[number] for number in range(3 * outbox.BATCH)]
    assert database.hooks.take_over is None


def test_a_running_relay_finds_by_itself_what_became_due(database: Database) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=0.2)
    enqueue(database, 1, delay=0.5)
    relay.start()
    try:
        assert sent.wait(PATIENCE)
    finally:
        relay.stop()


@contextmanager
def running(relay: Relay, database: Database) -> Iterator[None]:
    """A relay that listens, until it stops behind the block: its poll would notice that too, but late."""
    relay.start()
    try:
        await_relay(database)
        yield
    finally:
        relay._stopping.set()
        with database.session() as session:
            outbox.wake_relays(session)
        relay.stop()


def await_relay(database: Database) -> None:
    """Wait until a running relay has looked once, and listens."""
    listening = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %'"
    )

    def is_listening() -> bool:
        with database.session(read_only=True) as session:
            return bool(session.scalar(listening))

    if database.is_sqlite:
        time.sleep(0.3)
    else:
        until(is_listening)
