"""The broker of the embedded mode: no consumer looks for messages in vain or is kept waiting for one."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Queue
from kombu.utils.scheduling import FairCycle

from app.tasks.celery_app import MEMORY_TRANSPORT

NEVER = 60.0  # seconds


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://", transport=MEMORY_TRANSPORT) as connection:
        yield connection


@pytest.fixture
def queue() -> Queue:
    return Queue(f"queue-{uuid4()}")


class Receiver:
    """What a consumer of another connection has got."""

    def __init__(self, connection: Connection, queue: Queue, *, prefetch: int = 0) -> None:
        self.messages: list[Any] = []
        self._connection = connection
        consumer = connection.Consumer([queue], callbacks=[lambda _, message: self.messages.append(message)])
        consumer.qos(prefetch_count=prefetch)
        consumer.consume()

    def wait(self, meanwhile: Any, timeout: float = NEVER) -> float:
        """Seconds until the next message, while something happens in another thread a little later."""
        began = time.monotonic()
        thread = threading.Timer(0.1, meanwhile)
        thread.start()
        self._connection.drain_events(timeout=timeout)
        thread.join()
        return time.monotonic() - began


def publish(queue: Queue, body: str) -> None:
    with Connection("memory://", transport=MEMORY_TRANSPORT) as connection:
        connection.Producer().publish(body, exchange="", routing_key=queue.name, declare=[queue])


def test_a_message_of_another_thread_is_there_at_once(connection: Connection, queue: Queue) -> None:
    receiver = Receiver(connection, queue)
    assert receiver.wait(lambda: publish(queue, "first")) < NEVER / 2
    assert [message.payload for message in receiver.messages] == ["first"]


def test_without_a_message_it_ends_in_time(connection: Connection, queue: Queue) -> None:
    receiver = Receiver(connection, queue)
    with pytest.raises(TimeoutError):
        receiver.wait(lambda: None, timeout=0.5)


def test_who_has_enough_gets_the_next_one_when_another_thread_is_through(connection: Connection, queue: Queue) -> None:
    receiver = Receiver(connection, queue, prefetch=1)
    receiver.wait(lambda: publish(queue, "first"))
    with pytest.raises(TimeoutError):
        receiver.wait(lambda: publish(queue, "second"), timeout=0.5)
    assert receiver.wait(receiver.messages[0].ack) < NEVER / 2
    assert [message.payload for message in receiver.messages] == ["first", "second"]


def test_what_is_given_back_comes_again(connection: Connection, queue: Queue) -> None:
    receiver = Receiver(connection, queue, prefetch=1)
    receiver.wait(lambda: publish(queue, "first"))
    assert receiver.wait(lambda: receiver.messages[0].reject(requeue=True)) < NEVER / 2
    assert [message.payload for message in receiver.messages] == ["first", "first"]


def test_nobody_looks_while_nothing_happens(
    connection: Connection, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    original = FairCycle.get
    monkeypatch.setattr(
        FairCycle, "get", lambda self, *args, **options: looks.append(1) or original(self, *args, **options)
    )
    receiver = Receiver(connection, queue)
    with pytest.raises(TimeoutError):
        receiver.wait(lambda: None, timeout=1.0)
    assert len(looks) <= 6
