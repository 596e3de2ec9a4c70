"""What lasts: deliveries that end, the log, replays as rows, and what transactions do to each other."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from sqlalchemy import delete, func, inspect, select, text, update
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.orm import Session

from app.config import Settings, delivery_seconds
from app.database import Database, from_now
from app.errors import EndpointNotFound, InvalidCursor, TooManyEndpoints
from app.models import (
    DEFAULT_TENANT,
    DeliveryStatus,
    Event,
    EventType,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookReplay,
    WebhookSecret,
)
from app.routers import events as events_router
from app.schemas import NewEndpoint
from app.services.outbox import REPLAY_WEBHOOKS
from app.services.upkeep import reconciler
from app.services.webhook import CRASHED
from app.services.webhooks import deliveries, endpoints, events, replays
from app.services.webhooks.deliveries import Due, Outcome
from app.services.webhooks.replays import Wanted
from tests.support.receiver import answer, receiving
from tests.support.work import ON_POSTGRESQL, change, in_parallel, messages
from tests.test_webhooks import (
    FAILURES,
    LINKS,
    NOWHERE,
    PAUSES,
    claim,
    delivery_of,
    due_now,
    ended,
    fetched,
    numbered,
    read,
    registered,
    sender,
    told,
    worked_off,
)

LIFE = timedelta(seconds=delivery_seconds(PAUSES))
LONG = timedelta(days=365)


def begun(database: Database, delivery_id: str, owner: str = "worker") -> Due:
    due = claim(database, delivery_id, owner)
    assert due is not None
    return due


def finish(database: Database, due: Due, **outcome: Any) -> DeliveryStatus | None:
    with database.session() as session:
        return deliveries.finish(session, due, Outcome(at=datetime.now(UTC), seconds=1, **outcome), PAUSES)


def expire(database: Database, delivery_id: str) -> None:
    over = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    change(database, over.values(expires_at=from_now(-1), next_attempt_at=from_now(-2)))


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


# -- deliveries end ----------------------------------------------------------------------------------------------------


def test_the_time_of_a_delivery_begins_with_its_first_attempt_and_anew_with_a_replay(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    assert fetched(database, delivery_id).expires_at is None, "workers that are away cost it nothing"
    first = begun(database, delivery_id)
    expires_at = fetched(database, delivery_id).expires_at
    assert expires_at is not None
    assert abs(expires_at - datetime.now(UTC) - LIFE) < timedelta(seconds=30)
    finish(database, first, error="failed")
    due_now(database, delivery_id)
    begun(database, delivery_id)
    assert fetched(database, delivery_id).expires_at == expires_at
    with database.session() as session:
        deliveries.replay(session, delivery_id)
    assert fetched(database, delivery_id).expires_at is None


def test_what_waits_too_long_for_a_dead_host_is_exhausted_and_can_be_replayed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(answer(500)) as receiver:
        ids = [told(database, receiver.url) for _ in range(FAILURES + 1)]
        hooks = sender(database)
        for delivery_id in ids:
            hooks.attempt(delivery_id, "worker")
        waiting = fetched(database, ids[-1])
        assert (waiting.status, waiting.attempts, waiting.postponements) == (DeliveryStatus.PENDING, 0, 1)
        with database.session() as session:  # the next look would come too late
            deliveries.get(session, waiting.id).expires_at = from_now(3)
            deliveries.get(session, waiting.id).next_attempt_at = from_now()
        hooks.attempt(waiting.id, "worker")
        given_up = fetched(database, waiting.id)
        assert (given_up.status, given_up.last_error) == (DeliveryStatus.EXHAUSTED, deliveries.TOO_LATE)
        assert [record.delivery_id for record in caplog.records if record.msg == "webhook_given_up"] == [waiting.id]
        receiver.behave(answer(204))
        with database.session() as session:
            deliveries.replay(session, waiting.id)
        sender(database).attempt(waiting.id, "worker")
    assert fetched(database, waiting.id).status == DeliveryStatus.DELIVERED


@pytest.mark.parametrize(
    ("status", "becomes", "error"),
    [(204, DeliveryStatus.DELIVERED, None), (500, DeliveryStatus.EXHAUSTED, deliveries.TOO_LATE)],
)
def test_a_delivery_whose_time_is_over_is_attempted_once_more(
    database: Database, status: int, becomes: DeliveryStatus, error: str | None
) -> None:
    with receiving(answer(status)) as receiver:
        delivery_id = told(database, receiver.url)
        expire(database, delivery_id)  # while all workers were away, which is no fault of the host
        sender(database).attempt(delivery_id, "worker")
        assert len(receiver.requests) == 1
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (becomes, error)


def test_what_is_given_up_after_a_long_downtime_stays_to_be_seen(database: Database) -> None:
    with receiving(answer(500)) as receiver:
        delivery_id = told(database, receiver.url)
        expire(database, delivery_id)
        change(database, update(Event).values(created_at=from_now(-1000)))
        change(database, update(WebhookDelivery).values(next_attempt_at=from_now(-1000)))
        sender(database).attempt(delivery_id, "worker")
    with database.session() as session:
        events.Expiry(99)(session)
    assert fetched(database, delivery_id).status == DeliveryStatus.EXHAUSTED


def test_an_event_that_cannot_be_written_down_costs_attempts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("a fault of ours")

    delivery_id = told(database, NOWHERE)
    monkeypatch.setattr(events, "body", broken)
    sender(database, pauses=()).attempt(delivery_id, "worker")
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (DeliveryStatus.EXHAUSTED, CRASHED)


def test_an_endpoint_goes_with_its_deliveries_a_batch_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "BATCH", 2)
    endpoint_id, _ = registered(database, NOWHERE)
    for _ in range(3):
        ended(database, None)
    with database.session() as session:
        endpoints.retire(session, endpoint_id)
    ended(database, None)
    for left in (2, 1, 0):
        with database.session() as session:
            assert endpoints.remove_deliveries(session, endpoint_id) == left
    with database.session() as session:
        endpoints.delete(session, endpoint_id)
    with database.session() as session, pytest.raises(EndpointNotFound):
        endpoints.retire(session, endpoint_id)


def test_a_receiver_that_asks_for_more_time_than_there_is_gets_no_more(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    due = begun(database, delivery_id)
    change(database, update(WebhookDelivery).values(expires_at=from_now(3600)))
    assert finish(database, due, error="answered 503", retry_after=86_400.0) == DeliveryStatus.EXHAUSTED
    assert messages(database) == []


def test_the_log_keeps_what_is_still_to_be_delivered_or_was_given_up_lately(database: Database) -> None:
    pending, given_up, long_ago, delivered = (told(database, NOWHERE) for _ in range(4))
    change(database, update(Event).values(created_at=from_now(-100)))
    for delivery_id, status, age in (
        (given_up, DeliveryStatus.EXHAUSTED, 50),
        (long_ago, DeliveryStatus.EXHAUSTED, 100),
        (delivered, DeliveryStatus.DELIVERED, 50),
    ):
        one = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
        change(database, one.values(status=status, next_attempt_at=from_now(-age)))
    with database.session() as session:
        expiry = events.Expiry(99)
        assert (expiry(session), expiry(session)) == (4, 0), "each is looked at once"
    with database.session(read_only=True) as session:
        assert set(session.scalars(select(WebhookDelivery.id))) == {pending, given_up}


def test_the_log_goes_back_further_than_deliveries_take() -> None:
    assert Settings().events_kept_seconds > delivery_seconds(Settings().webhook_retry_seconds)
    Settings(webhook_retry_seconds=(60,), events_kept_seconds=86_400 + 72)
    with pytest.raises(ValidationError, match="must be at least 86472"):
        Settings(webhook_retry_seconds=(60,), events_kept_seconds=86_400 + 71)


def test_an_attempt_that_a_replay_overtakes_is_listed_and_its_410_is_heard(database: Database) -> None:
    endpoint_id, _ = registered(database, NOWHERE)
    delivery_id = delivery_of(database, ended(database, None)).id
    due = begun(database, delivery_id)
    with database.session() as session:
        deliveries.replay(session, delivery_id)
    assert finish(database, due, error="answered 410", status_code=410, gone=True) is None
    delivery = fetched(database, delivery_id)
    assert [(attempt.number, attempt.status_code) for attempt in delivery.tries] == [(1, 410)]
    assert (delivery.status, delivery.attempts - delivery.attempts_before) == (DeliveryStatus.PENDING, 0)
    with database.session(read_only=True) as session:
        assert not endpoints.get(session, endpoint_id).enabled


def test_a_success_that_comes_after_the_end_is_one(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    due = begun(database, delivery_id)
    change(database, update(WebhookDelivery).values(status=DeliveryStatus.EXHAUSTED, lease_owner=None))
    assert finish(database, due, status_code=204) == DeliveryStatus.DELIVERED


def test_a_list_of_deliveries_leaves_out_jobs_and_attempts(database: Database) -> None:
    sender(database).attempt(told(database, NOWHERE), "worker")
    with database.session(read_only=True) as session:
        ((delivery,), _) = deliveries.list_page(session, limit=1)
        assert "tries" in inspect(delivery).unloaded
        assert "data" in inspect(delivery.event).unloaded
        assert (delivery.attempts, delivery.event.type) == (1, EventType.COMPLETED)


# -- replays -----------------------------------------------------------------------------------------------------------


def begin(database: Database, endpoint_id: str, *, missed_only: bool = False) -> WebhookReplay:
    now = datetime.now(UTC)
    wanted = Wanted(endpoint_id=endpoint_id, since=now - LONG, until=now + LONG, missed_only=missed_only)
    with database.session() as session:
        replay = replays.start(session, wanted)
    messages(database)
    return replay


def run(database: Database, replay_id: str, after: str) -> None:
    with database.session() as session:
        replays.run_batch(session, replay_id, after)


def replay_of(database: Database, endpoint_id: str) -> WebhookReplay:
    with database.session(read_only=True) as session:
        return replays.newest(session, endpoint_id)[0]


@pytest.fixture
def endpoint_id(database: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint that has missed five events; two fit into a batch."""
    monkeypatch.setattr(replays, "BATCH", 2)
    for _ in range(5):
        ended(database, None)
    return registered(database, NOWHERE)[0]


def sent(database: Database) -> int:
    with database.session(read_only=True) as session:
        return len(session.scalars(select(WebhookDelivery.id)).all())


Repair = Callable[[Session], int]


def swept(session: Session) -> int:
    return reconciler.sweep(session, redispatch_seconds=600, waiting=lambda _: 7).replays


@pytest.mark.parametrize("repair", [swept, replays.resume])
def test_a_replay_whose_message_is_lost_goes_on_where_it_was(
    database: Database, endpoint_id: str, repair: Repair
) -> None:
    replay = begin(database, endpoint_id)
    run(database, replay.id, replay.after)
    messages(database)  # lost
    if repair is swept:
        with database.session() as session:
            assert repair(session) == 0, "not before it has been silent for long"
        change(database, update(WebhookReplay).values(dispatched_at=from_now(-601)))
    with database.session() as session:
        assert repair(session) == 1
    moved = replay_of(database, endpoint_id)
    assert (moved.events, moved.finished_at) == (2, None)
    assert len(worked_off(database)) == 3
    done = replay_of(database, endpoint_id)
    assert (done.events, done.finished_at is not None, done.error, sent(database)) == (5, True, None, 5)
    change(database, update(WebhookReplay).values(dispatched_at=from_now(-601)))
    with database.session() as session:
        assert repair(session) == 0


def test_a_copy_of_the_message_of_a_batch_does_nothing(database: Database, endpoint_id: str) -> None:
    replay = begin(database, endpoint_id)
    run(database, replay.id, replay.after)
    assert [task for task, *_ in messages(database)].count(REPLAY_WEBHOOKS) == 1
    run(database, replay.id, replay.after)
    assert messages(database) == []
    assert (replay_of(database, endpoint_id).events, sent(database)) == (2, 2)


@ON_POSTGRESQL
def test_of_copies_at_the_same_time_one_sends_the_batch(database: Database, endpoint_id: str) -> None:
    replay = begin(database, endpoint_id)
    in_parallel([lambda: run(database, replay.id, replay.after)] * 4)
    assert [task for task, *_ in messages(database)].count(REPLAY_WEBHOOKS) == 1
    assert sent(database) == 2


def test_a_replay_to_an_endpoint_that_is_switched_off_ends_and_says_why(database: Database, endpoint_id: str) -> None:
    replay = begin(database, endpoint_id)
    with database.session() as session:
        endpoints.disable(session, endpoint_id, url=NOWHERE, reason="it answered 410")
    run(database, replay.id, replay.after)
    ended_early = replay_of(database, endpoint_id)
    assert (ended_early.finished_at is not None, ended_early.error) == (True, "the endpoint is disabled")


def test_replays_of_long_ago_are_forgotten(database: Database, endpoint_id: str) -> None:
    begin(database, endpoint_id)
    worked = begin(database, endpoint_id)
    change(database, update(WebhookReplay).where(WebhookReplay.id == worked.id).values(finished_at=from_now(-100)))
    with database.session() as session:
        assert (replays.remove_old(session, 101), replays.remove_old(session, 99)) == (0, 1)


MANY = 20_000


@pytest.fixture
def crowded(database: Database) -> str:
    """An endpoint that has taken all but the last of many events, on PostgreSQL."""
    endpoint_id, _ = registered(database, NOWHERE)
    now = events.new_id()[: len("msg_") + 12]
    with database.session() as session:
        session.execute(
            text(
                "INSERT INTO events SELECT :time || lpad(i::text, 20, '0'), i, 'job.completed', gen_random_uuid(), 1,"
                " now(), '{}' FROM generate_series(1, :many) i"
            ),
            {"many": MANY, "time": now},
        )
        session.execute(
            text(
                "INSERT INTO deliveries (id, event_id, endpoint_id, url, status, attempts, attempts_before,"
                " postponements, created_at, next_attempt_at, dispatched_at) SELECT 'dlv_' || lpad(i::text, 32, '0'),"
                " :time || lpad(i::text, 20, '0'), :endpoint, 'http://x/', 'delivered', 1, 0, 0, now(), now(), now()"
                " FROM generate_series(1, :taken) i"
            ),
            {"endpoint": endpoint_id, "taken": MANY - 1, "time": now},
        )
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    return endpoint_id


@ON_POSTGRESQL
def test_finding_what_an_endpoint_has_missed_takes_no_time_among_many(database: Database, crowded: str) -> None:
    replay = begin(database, crowded, missed_only=True)
    with database.session() as session:
        session.execute(text("SET LOCAL work_mem = '64kB'"))  # as if there were a hundred times as many
        session.execute(text("SET LOCAL statement_timeout = '3s'"))
        replays.run_batch(session, replay.id, replay.after)
    assert replay_of(database, crowded).events == 1


@ON_POSTGRESQL
def test_frequent_questions_are_answered_by_an_index(database: Database, crowded: str) -> None:
    leased = select(func.max(WebhookDelivery.dispatched_at)).where(WebhookDelivery.lease_until > from_now())
    failed = select(Event.id).where(Event.tenant == DEFAULT_TENANT, Event.position > 0, Event.type == "job.failed")
    failed = failed.order_by(Event.position).limit(51)
    for query, index in ((leased, "ix_deliveries_leased"), (failed, "ix_events_tenant_type_position")):
        sql = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
        with database.engine.connect() as connection:
            plan = "\n".join(connection.scalars(text(f"EXPLAIN {sql}".replace(":", "\\:"))))
        assert index in plan, crowded


# -- the log -----------------------------------------------------------------------------------------------------------


def test_a_request_numbers_some_events_and_says_that_there_are_more(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [str(ended(database, None)) for _ in range(5)]
    monkeypatch.setattr(events, "BATCH", 2)

    async def pages() -> list[tuple[list[str], bool]]:
        own, after, found = Database(database_url), 0, []
        resources: Any = SimpleNamespace(database=own, links=LINKS)
        for _ in range(4):
            told, after, more = await events_router._page(resources, after, 100, None)
            found.append(([event["data"]["id"] for event in told], more))
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
        assert events.place(session, new.id) == old.position, "those of the hour before are told again"
        gone = f"{events._id_of(old.created_at.timestamp() - 4 * 3600)}{'0' * 20}"
        assert events.place(session, gone) == 0


def test_a_test_event_has_no_place_in_the_log(database: Database) -> None:
    ended(database, None)
    numbered(database)
    test = Event(id=events.new_id(), type=EventType.TEST, created_at=datetime.now(UTC), data={})
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


# -- endpoints ---------------------------------------------------------------------------------------------------------


@ON_POSTGRESQL
def test_a_job_ends_although_an_endpoint_is_deleted_at_that_moment(database: Database) -> None:
    endpoint_id, _ = registered(database, NOWHERE)

    def remove() -> None:
        with database.session() as session:
            endpoints.delete(session, endpoint_id)

    removing = threading.Thread(target=remove)
    with database.session() as session:
        event = Event(id=events.new_id(), type=EventType.COMPLETED, job_id=uuid4(), run=1, created_at=from_now())
        event.data = {}
        session.add(event)
        session.flush()
        (target,) = endpoints.targets(session, event.type, None)
        removing.start()
        time.sleep(0.5)
        deliveries.create(session, event, target)
    removing.join()
    with database.session(read_only=True) as session:
        assert session.scalars(select(WebhookEndpoint.id)).all() == []
        assert session.scalars(select(WebhookDelivery.id)).all() == []
        assert len(session.scalars(select(Event.id)).all()) == 1


@pytest.mark.parametrize("own", [True, False], ids=["endpoint", "server"])
def test_rotations_at_the_same_time_leave_two_keys_that_sign(database: Database, own: bool) -> None:
    endpoint_id = registered(database, NOWHERE)[0] if own else None

    def rotate() -> str:
        with database.session() as session:
            return endpoints.rotate(session, endpoint_id)

    made = in_parallel([rotate] * 6)
    with database.session(read_only=True) as session:
        signing = endpoints.secrets(session, endpoint_id)
        current = select(WebhookSecret.secret).where(WebhookSecret.expires_at.is_(None))
        currents = session.scalars(current.where(WebhookSecret.endpoint_id == endpoint_id)).all()
    assert (len(signing), currents) == (2, signing[:1])
    assert set(signing) <= set(made)


def test_endpoints_that_are_registered_at_the_same_time_respect_the_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)

    def register() -> bool:
        try:
            registered(database, NOWHERE)
        except TooManyEndpoints:
            return False
        return True

    assert sum(in_parallel([register] * 6)) == 2


def test_types_of_events_are_few_and_none_is_there_twice() -> None:
    asked = {"url": NOWHERE, "events": ["job.failed", "job.completed", "job.failed"]}
    assert NewEndpoint.model_validate(asked).events == ["job.completed", "job.failed"]
    for refused in (["webhook.test"], ["job.failed"] * 5):
        with pytest.raises(ValidationError):
            NewEndpoint.model_validate({"url": NOWHERE, "events": refused})
