"""Replays of one delivery and of all since a time: as rows that go on where they were."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.database import Database, from_now
from app.errors import DeliveryNotFound
from app.models import (
    DeliveryStatus,
    Event,
    WebhookDelivery,
    WebhookReplay,
)
from app.services.outbox import DELIVER_WEBHOOK, REPLAY_WEBHOOKS
from app.services.upkeep import reconciler
from app.services.webhooks import deliveries, endpoints, events, replays
from app.services.webhooks.replays import Wanted
from app.tenancy import DEFAULT_TENANT
from tests.support.receiver import (
    answer,
    receiving,
)
from tests.support.webhooks import NOWHERE, delivery_to, ended, fetched, registered, sender, worked_off
from tests.support.work import (
    ON_POSTGRESQL,
    change,
    in_parallel,
    messages,
)

# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_keeps_the_id_and_begins_a_new_schedule(database: Database) -> None:
    with receiving(answer(400)) as receiver:
        delivery_id = delivery_to(database, receiver.url)
        hooks = sender(database, pauses=())
        hooks.attempt(delivery_id, "worker")
        assert fetched(database, delivery_id).status == DeliveryStatus.EXHAUSTED
        with database.session() as session:
            assert deliveries.replay(session, delivery_id).status == DeliveryStatus.PENDING
        assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], 0)]
        receiver.behave(answer(204))
        hooks.attempt(delivery_id, "worker")
        assert len(set(receiver.ids)) == 1
    delivery = fetched(database, delivery_id)
    assert delivery.status == DeliveryStatus.DELIVERED
    assert [attempt.number for attempt in delivery.tries] == [1, 2]


def test_of_a_delivery_that_is_replayed_without_end_the_last_attempts_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "KEPT_ATTEMPTS", 3)
    with receiving() as receiver:
        delivery_id = delivery_to(database, receiver.url)
        for _ in range(5):
            sender(database).attempt(delivery_id, "worker")
            with database.session() as session:
                deliveries.replay(session, delivery_id)
    delivery = fetched(database, delivery_id)
    assert (delivery.attempts, [attempt.number for attempt in delivery.tries]) == (5, [3, 4, 5])


def test_what_does_not_exist_cannot_be_replayed(database: Database) -> None:
    with database.session() as session, pytest.raises(DeliveryNotFound):
        deliveries.replay(session, "dlv_0")


def replayed(database: Database, wanted: Wanted) -> list[str]:
    """Ids of the events whose deliveries a replay has asked for."""
    messages(database)
    with database.session() as session:
        replays.start(session, wanted)
    return worked_off(database)


def test_all_events_since_a_time_are_sent_again_once_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "BATCH", 2)
    before = [ended(database, None) for _ in range(2)]
    with database.session(read_only=True) as session:
        old = session.scalars(select(Event.id).order_by(Event.id)).all()
    since = datetime.now(UTC)
    endpoint_id, _ = registered(database, NOWHERE)
    for _ in range(5):
        ended(database, None)
    change(database, update(WebhookDelivery).values(status=DeliveryStatus.DELIVERED))
    with database.session(read_only=True) as session:
        new = [id_ for id_ in session.scalars(select(Event.id).order_by(Event.id)) if id_ not in old]
    until = datetime.now(UTC) + timedelta(seconds=1)
    wanted = Wanted(endpoint_id=endpoint_id, since=since, until=until, missed_only=False)
    assert replayed(database, wanted) == new
    assert sorted(replayed(database, replace(wanted, since=since - timedelta(hours=1)))) == sorted(old)  # rest waits
    change(database, update(WebhookDelivery).values(status=DeliveryStatus.DELIVERED))
    assert replayed(database, replace(wanted, missed_only=True)) == []
    assert len(before) == len(old)


LONG = timedelta(days=365)


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
def test_questions_about_a_few_among_many_are_answered_by_an_index(database: Database, crowded: str) -> None:
    leased = select(func.max(WebhookDelivery.dispatched_at)).where(WebhookDelivery.lease_until > from_now())
    failed = select(Event.id).where(Event.tenant == DEFAULT_TENANT, Event.position > 0, Event.type == "job.failed")
    failed = failed.order_by(Event.position).limit(51)
    for query, index in ((leased, "ix_deliveries_leased"), (failed, "ix_events_tenant_type_position")):
        sql = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
        with database.engine.connect() as connection:
            plan = "\n".join(connection.scalars(text(f"EXPLAIN {sql}".replace(":", "\\:"))))
        assert index in plan

    replay = begin(database, crowded, missed_only=True)
    with database.session() as session:
        session.execute(text("SET LOCAL work_mem = '64kB'"))  # as if there were a hundred times as many
        session.execute(text("SET LOCAL statement_timeout = '3s'"))
        replays.run_batch(session, replay.id, replay.after)
    assert replay_of(database, crowded).events == 1
