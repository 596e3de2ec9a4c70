"""The log of events: every one once, in an order that readers can follow."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy import event as sqlalchemy_event
from standardwebhooks import Webhook

from app.database import Database, from_now
from app.errors import InvalidCursor
from app.models import (
    DeliveryStatus,
    Event,
    EventType,
    Result,
    WebhookDelivery,
)
from app.routers import events as events_router
from app.services import steps, webhook
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT
from tests.support.receiver import (
    receiving,
)
from tests.support.webhooks import LINKS, NOWHERE, ended, numbered, read, registered, sender
from tests.support.work import (
    ON_POSTGRESQL,
    OUTCOME,
    accept,
    change,
    claimed,
    in_parallel,
    run_task,
)


def test_the_log_has_every_event_once_in_pages(database: Database) -> None:
    expected = [str(ended(database, None)) for _ in range(5)]
    first, after, more = read(database, limit=3)
    assert more
    second, last, more = read(database, after)
    assert (first + second, more) == (expected, False)
    assert read(database, last) == ([], last, False)
    later = str(ended(database, None))
    assert read(database, last)[0] == [later]


@ON_POSTGRESQL
def test_a_slow_transaction_is_not_passed_over(database: Database) -> None:
    slow, quick = accept(database, ["convert_png"]), accept(database, ["convert_png"])
    held = claimed(database, slow, "0")
    written, commit = threading.Event(), threading.Event()

    def end_slowly() -> None:
        with database.session() as session:
            steps.succeed(session, held, {"0": [OUTCOME]})
            written.set()
            commit.wait(10)

    thread = threading.Thread(target=end_slowly)
    thread.start()
    written.wait(10)
    run_task(database, quick, "0")
    first, after, _ = read(database)
    commit.set()
    thread.join()
    second, _, _ = read(database, after)
    assert (first, second) == ([str(quick)], [str(slow)])


def test_readers_at_the_same_time_agree(database: Database) -> None:
    expected = [str(ended(database, None)) for _ in range(10)]
    found = in_parallel([lambda: read(database)[0]] * 6)
    assert all(ids == expected for ids in found)


def test_numbers_are_not_given_twice_when_the_log_has_lost_its_end(database: Database) -> None:
    first = ended(database, None)
    _, after, _ = read(database)
    change(database, delete(Event).where(Event.job_id == first))
    second = ended(database, None)
    assert read(database, after)[0] == [str(second)]


def test_old_events_go_with_their_deliveries(database: Database) -> None:
    ended(database)
    change(database, update(Event).values(created_at=from_now(-100)))
    change(database, update(WebhookDelivery).values(status=DeliveryStatus.DELIVERED))
    young = ended(database)
    with database.session() as session:
        assert events.Expiry(99)(session) == 1
    with database.session(read_only=True) as session:
        assert [event.job_id for event in session.scalars(select(Event))] == [young]
        assert len(session.scalars(select(WebhookDelivery)).all()) == 1
    with database.session(read_only=True) as session:
        assert len(session.scalars(select(Result)).all()) == 2


def test_a_test_event_goes_to_one_endpoint_and_not_into_the_log(database: Database) -> None:
    with receiving() as receiver:
        endpoint_id, secret = registered(database, receiver.url, EventType.FAILED)
        registered(database, NOWHERE)
        with database.session() as session:
            delivery = webhook.send_test(session, endpoint_id)
        sender(database).attempt(delivery.id, "worker")
        (request,) = receiver.requests
    event = Webhook(secret).verify(request.body, request.headers)
    assert (event["type"], event["data"]) == ("webhook.test", {"endpoint": endpoint_id})
    assert read(database)[0] == []
    with database.session(read_only=True) as session:
        assert not events.has_unnumbered(session)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Everything that is executed meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sqlalchemy_event.remove(database.engine, "before_cursor_execute", note)


def test_a_request_numbers_some_events_and_says_that_there_are_more(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [str(ended(database, None)) for _ in range(5)]
    monkeypatch.setattr(events, "BATCH", 2)

    async def pages() -> list[tuple[list[str], bool]]:
        own, after, found = Database(database_url), 0, []
        resources: Any = SimpleNamespace(database=own, links=LINKS)
        for _ in range(4):
            reported, after, more = await events_router._page(resources, own.of(DEFAULT_TENANT), after, 100, None)
            found.append(([event["data"]["id"] for event in reported], more))
        await own.aclose()
        return found

    assert asyncio.run(pages()) == [(expected[:2], True), (expected[2:4], True), (expected[4:], False), ([], False)]


@ON_POSTGRESQL
def test_an_event_that_goes_while_it_is_numbered_leaves_a_gap(database: Database) -> None:
    expected = [ended(database, None) for _ in range(3)]
    gone: list[Any] = []

    def remove(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE events") and not gone:
            gone.append(expected[1])
            change(database, delete(Event).where(Event.job_id == expected[1]))

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", remove)
    try:
        with database.session() as session:
            events.number(session)
    finally:
        sqlalchemy_event.remove(database.engine, "before_cursor_execute", remove)
    found, last, _ = read(database)
    assert found == [str(expected[0]), str(expected[2])]
    assert gone
    assert read(database, last)[0] == []
    later = ended(database, None)
    assert read(database, last)[0] == [str(later)]


def test_a_cursor_is_the_id_of_an_event_and_tells_no_number(database: Database) -> None:
    ended(database, None)
    with database.session() as session:
        [event] = session.scalars(select(Event))
        assert events.place(session, event.id) is None, "it has no place yet"
        events.number(session)
        session.refresh(event)
        assert events.place(session, event.id) == event.position
        assert events.place(session, events.BEGINNING) == 0
        for wrong in ("", "1", f"{event.id}0", event.id.upper(), "msg_\0", f"{event.id}\n"):
            with pytest.raises(InvalidCursor):
                events.place(session, wrong)


def test_a_reader_that_comes_back_when_its_event_is_gone_misses_none(database: Database) -> None:
    for hours in (3, 0):
        job_id = ended(database, None)
        at = datetime.now(UTC) - timedelta(hours=hours)
        values = {"id": f"{events._id_of(at.timestamp())}{uuid4().hex[:20]}"}
        change(database, update(Event).where(Event.job_id == job_id).values(**values))
    numbered(database)
    with database.session() as session:
        old, new = session.scalars(select(Event).order_by(Event.id))
        session.delete(new)
        session.flush()
        assert events.place(session, new.id) == old.position, "those of the hour before come again"
        gone = f"{events._id_of(old.created_at.timestamp() - 4 * 3600)}{'0' * 20}"
        assert events.place(session, gone) == 0


def test_a_test_event_has_no_place_in_the_log(database: Database) -> None:
    ended(database, None)
    numbered(database)
    test = Event(id=events.new_id(), tenant=DEFAULT_TENANT, type=EventType.TEST, created_at=datetime.now(UTC), data={})
    with database.session() as session:
        session.add(test)
        session.flush()
        assert not events.has_unnumbered(session)
        assert events.place(session, test.id) == 0


def test_who_asks_for_a_type_goes_on_from_the_end_of_the_log(database: Database) -> None:
    for _ in range(3):
        ended(database, None)
    _, end, _ = read(database)
    with database.session(read_only=True) as session:
        assert events.page(session, LINKS, after=0, limit=2, type_="job.failed") == ([], end, False)
        shown, last, more = events.page(session, LINKS, after=0, limit=2, type_="job.completed")
        assert (len(shown), last, more) == (2, end - 1, True), "but never over what was not shown"
        assert events.page(session, LINKS, after=end + 9, limit=2)[1] == end + 9


def test_a_page_takes_as_many_statements_as_a_longer_one(database: Database) -> None:
    for _ in range(6):
        ended(database, None)
    numbered(database)
    taken = []
    for limit in (1, 6):
        with statements(database) as seen, database.session(read_only=True) as session:
            assert len(events.page(session, LINKS, after=0, limit=limit)[0]) == limit
        taken.append(len(seen))
    assert taken[0] == taken[1]
