"""Deliveries as rows: one attempt at a time, none lost, and an end to each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import inspect, select, update

from app.config import Settings, delivery_seconds
from app.database import Database, from_now
from app.models import (
    DeliveryStatus,
    Event,
    EventType,
    WebhookDelivery,
)
from app.services import outbox
from app.services.outbox import DELIVER_WEBHOOK
from app.services.upkeep import reconciler
from app.services.upkeep.reconciler import Reconciler
from app.services.webhook import CRASHED
from app.services.webhooks import deliveries, endpoints, events
from tests.support.receiver import (
    answer,
    receiving,
)
from tests.support.webhooks import (
    FAILURES,
    NOWHERE,
    PAUSES,
    begun,
    claim,
    delivery_of,
    delivery_to,
    due_now,
    ended,
    expire,
    fetched,
    finish,
    registered,
    sender,
)
from tests.support.work import (
    ON_POSTGRESQL,
    change,
    in_parallel,
    messages,
)

# -- guards ------------------------------------------------------------------------------------------------------------


def test_while_an_attempt_is_under_way_no_other_message_begins_one(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    assert claim(database, delivery_id, "ann") is not None
    assert claim(database, delivery_id, "bob") is None
    assert claim(database, delivery_id, "ann") is not None, "the same message, redelivered, goes on"


@ON_POSTGRESQL
def test_of_many_copies_at_once_one_begins(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    calls = [lambda name=name: claim(database, delivery_id, name) for name in "abcdefgh"]
    assert sum(due is not None for due in in_parallel(calls)) == 1


def test_a_worker_that_died_is_replaced_and_its_late_failure_is_listed_and_moves_nothing(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    dead = claim(database, delivery_id, "dead", lease=-1)
    assert dead is not None
    with database.session() as session:
        repairs = reconciler.sweep(session, redispatch_seconds=600, waiting=lambda _: 7)
    assert repairs.webhooks == 1
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], 0)]
    alive = claim(database, delivery_id, "alive")
    assert (alive.number if alive else 0, alive.message_id if alive else "") == (1, dead.message_id)
    failed = deliveries.AttemptResult(at=datetime.now(UTC), seconds=1, error="late")
    for _ in range(2):  # the answer to a commit may be lost
        with database.session() as session:
            assert deliveries.finish(session, dead, failed, PAUSES) is None
    delivery = fetched(database, delivery_id)
    assert [attempt.error for attempt in delivery.tries] == ["late"]
    assert (delivery.attempts, delivery.attempts_before, delivery.lease_owner) == (1, 1, "alive")
    assert messages(database) == []


def test_a_late_success_counts(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    dead = claim(database, delivery_id, "dead", lease=-1)
    assert dead is not None
    assert claim(database, delivery_id, "alive") is not None
    taken = deliveries.AttemptResult(at=datetime.now(UTC), seconds=1, status_code=200)
    with database.session() as session:
        assert deliveries.finish(session, dead, taken, PAUSES) == DeliveryStatus.DELIVERED


def test_a_lost_message_is_written_again_only_when_it_has_been_silent_for_long(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    with database.session() as session:
        assert deliveries.sweep(session, redispatch_seconds=600, is_queue_empty=lambda: True) == 0
    old = update(WebhookDelivery).values(dispatched_at=from_now(-601), next_attempt_at=from_now(-601))
    change(database, old)
    for found in (1, 0):
        with database.session() as session:
            assert deliveries.sweep(session, redispatch_seconds=600, is_queue_empty=lambda: True) == found
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], 0)]


def swept(database: Database) -> int:
    with database.session() as session:
        return deliveries.sweep(session, redispatch_seconds=900, is_queue_empty=lambda: True)


def test_a_first_message_that_was_never_sent_is_written_again_soon(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    assert swept(database) == 0
    change(database, update(WebhookDelivery).values(dispatched_at=from_now(-outbox.UNSENT_SECONDS - 1)))
    assert swept(database) == 1
    assert [args for _, args, _ in messages(database)] == [[delivery_id]]
    change(
        database,
        update(WebhookDelivery).values(attempts=1, dispatched_at=from_now(-outbox.UNSENT_SECONDS - 1)),
    )
    assert swept(database) == 0, "later ones are rows of the outbox"


def test_the_first_message_of_a_replay_that_was_never_sent_is_written_again_soon(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    change(database, update(WebhookDelivery).values(attempts=3, status=DeliveryStatus.EXHAUSTED))
    with database.session() as session:
        deliveries.replay(session, delivery_id)
    messages(database)
    with database.session() as session:  # that of an attempt before, which the replay has overtaken
        outbox.enqueue(session, DELIVER_WEBHOOK, [delivery_id], delay=3600, queue="webhook_queue")
    change(database, update(WebhookDelivery).values(dispatched_at=from_now(-outbox.UNSENT_SECONDS - 1)))
    assert swept(database) == 1


def test_a_message_that_the_broker_does_not_take_is_not_written_twice(database: Database) -> None:
    delivery_id, other = delivery_to(database, NOWHERE), delivery_to(database, NOWHERE)
    outbox.keep(database, [outbox.Message(task=DELIVER_WEBHOOK, args=[delivery_id], queue="webhook_queue")])
    change(database, update(WebhookDelivery).values(dispatched_at=from_now(-601), next_attempt_at=from_now(-601)))
    assert swept(database) == 1
    assert [args for _, args, _ in messages(database)] == [[delivery_id], [other]]


def test_what_waits_for_its_time_is_left_alone(database: Database) -> None:
    delivery_to(database, NOWHERE)
    change(database, update(WebhookDelivery).values(next_attempt_at=from_now(3600), dispatched_at=from_now(-9999)))
    with database.session() as session:
        assert deliveries.sweep(session, redispatch_seconds=600, is_queue_empty=lambda: True) == 0


def test_who_stands_in_a_long_queue_has_lost_nothing(database: Database) -> None:
    waiting, passed_over, running = (delivery_to(database, NOWHERE) for _ in range(3))
    change(database, update(WebhookDelivery).values(next_attempt_at=from_now(-2000)))
    for delivery_id, age in ((waiting, 700), (passed_over, 900), (running, 800)):
        aged = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
        change(database, aged.values(dispatched_at=from_now(-age)))
    assert claim(database, running, "worker") is not None
    with database.session() as session:
        assert deliveries.sweep(session, redispatch_seconds=600, is_queue_empty=lambda: False) == 1
    assert messages(database) == [(DELIVER_WEBHOOK, [passed_over], 0)]


def test_deliveries_that_a_broker_in_memory_has_forgotten_are_sent_again_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "BATCH", 2)
    ids = [delivery_to(database, NOWHERE) for _ in range(5)]
    claim(database, ids[0], "of the process before")
    later = delivery_to(database, NOWHERE)
    change(
        database,
        update(WebhookDelivery).where(WebhookDelivery.id == later).values(next_attempt_at=from_now(60)),
    )
    with database.session() as session:
        assert deliveries.resume(session) == 5
    assert messages(database) == [], "not all of them in the transaction before the port opens"
    transactions: list[Any] = []
    sqlalchemy_event.listen(database.engine, "commit", transactions.append)
    repairs = Reconciler(database, lambda _: 7, every_seconds=60, redispatch_seconds=600)
    repairs.run_once()
    assert len(transactions) == 3
    assert [(task, args) for task, args, _ in messages(database)] == [(DELIVER_WEBHOOK, [id_]) for id_ in ids]
    repairs.run_once()
    assert messages(database) == []
    assert claim(database, ids[0], "new") is not None


LIFE = timedelta(seconds=delivery_seconds(PAUSES))


# -- deliveries end ----------------------------------------------------------------------------------------------------


def test_the_time_of_a_delivery_begins_with_its_first_attempt_and_anew_with_a_replay(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
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
        ids = [delivery_to(database, receiver.url) for _ in range(FAILURES + 1)]
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
        delivery_id = delivery_to(database, receiver.url)
        expire(database, delivery_id)  # while all workers were away, which is not a fault of the host
        sender(database).attempt(delivery_id, "worker")
        assert len(receiver.requests) == 1
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (becomes, error)


def test_what_is_given_up_after_a_long_downtime_stays_to_be_seen(database: Database) -> None:
    with receiving(answer(500)) as receiver:
        delivery_id = delivery_to(database, receiver.url)
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

    delivery_id = delivery_to(database, NOWHERE)
    monkeypatch.setattr(events, "body", broken)
    sender(database, pauses=()).attempt(delivery_id, "worker")
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (DeliveryStatus.EXHAUSTED, CRASHED)


def test_a_receiver_that_asks_for_more_time_than_there_is_gets_no_more(database: Database) -> None:
    delivery_id = delivery_to(database, NOWHERE)
    due = begun(database, delivery_id)
    change(database, update(WebhookDelivery).values(expires_at=from_now(3600)))
    assert finish(database, due, error="answered 503", retry_after=86_400.0) == DeliveryStatus.EXHAUSTED
    assert messages(database) == []


def test_the_log_keeps_what_is_still_to_be_delivered_or_was_given_up_lately(database: Database) -> None:
    pending, given_up, long_ago, delivered = (delivery_to(database, NOWHERE) for _ in range(4))
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
    delivery_id = delivery_to(database, NOWHERE)
    due = begun(database, delivery_id)
    change(database, update(WebhookDelivery).values(status=DeliveryStatus.EXHAUSTED, lease_owner=None))
    assert finish(database, due, status_code=204) == DeliveryStatus.DELIVERED


def test_a_list_of_deliveries_leaves_out_jobs_and_attempts(database: Database) -> None:
    sender(database).attempt(delivery_to(database, NOWHERE), "worker")
    with database.session(read_only=True) as session:
        ((delivery,), _) = deliveries.list_page(session, limit=1)
        assert "tries" in inspect(delivery).unloaded
        assert "data" in inspect(delivery.event).unloaded
        assert (delivery.attempts, delivery.event.type) == (1, EventType.COMPLETED)
