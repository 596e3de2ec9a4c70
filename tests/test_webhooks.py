"""Who is told of what, how often, and what each answer leads to; on both kinds of database, with real receivers."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy import event as sqlalchemy_event
from standardwebhooks import Webhook

from app.database import Database, from_now
from app.errors import DeliveryNotFound, EndpointDisabled, TooManyEndpoints
from app.models import (
    DeliveryStatus,
    Event,
    EventType,
    Job,
    JobStatus,
    Result,
    WebhookDelivery,
)
from app.services import jobs, outbox, steps, webhook
from app.services.finalizer import finalize
from app.services.outbox import DELIVER_WEBHOOK, REPLAY_WEBHOOKS
from app.services.storage.links import ApiLinks
from app.services.upkeep import reconciler
from app.services.upkeep.reconciler import Reconciler
from app.services.webhook import WebhookSender
from app.services.webhooks import deliveries, endpoints, events, replays
from app.services.webhooks.breakers import Breakers
from app.services.webhooks.egress import Egress
from app.services.webhooks.host_limits import BUSY_SECONDS, HostLimits
from app.services.webhooks.replays import Wanted
from tests.support.receiver import (
    Behaviour,
    answer,
    drip,
    drip_body,
    flood,
    garble,
    hang,
    receiving,
    reset,
)
from tests.support.work import (
    ON_POSTGRESQL,
    OUTCOME,
    accept,
    change,
    claimed,
    crash_after,
    in_parallel,
    job_of,
    messages,
    run_task,
)

PAUSES = (5, 300, 1800)
LINKS = ApiLinks(b"key", 60)
NOWHERE = "http://127.0.0.1:1/"
FAILURES = 4


def sender(database: Database, **changes: Any) -> WebhookSender:
    usual = WebhookSender(
        database=database,
        links=LINKS,
        egress=Egress(frozenset({80, 443}), (IPv4Network("127.0.0.0/8"),)),
        breakers=Breakers(failures=FAILURES, reset_seconds=60, probe_seconds=1),
        host_limits=HostLimits(4, 16),
        timeout_seconds=1,
        pauses=PAUSES,
    )
    return replace(usual, **changes)


def ended(database: Database, url: str | None = NOWHERE, tree: Sequence[Any] = ("convert_png",)) -> UUID:
    """A job that has completed."""
    job_id = accept(database, list(tree), webhook_url=url)
    run_task(database, job_id, "0")
    return job_id


def delivery_of(database: Database, job_id: UUID) -> WebhookDelivery:
    with database.session(read_only=True) as session:
        (found,), _ = deliveries.list_page(session, limit=10, job_id=job_id)
        return found


def told(database: Database, url: str) -> str:
    """Id of the one delivery of a job that has ended; its message is taken."""
    delivery = delivery_of(database, ended(database, url))
    assert [task for task, *_ in messages(database)] == [DELIVER_WEBHOOK]
    return delivery.id


def fetched(database: Database, delivery_id: str) -> WebhookDelivery:
    with database.session(read_only=True) as session:
        return deliveries.get(session, delivery_id)


def due_now(database: Database, delivery_id: str) -> None:
    change(
        database, update(WebhookDelivery).where(WebhookDelivery.id == delivery_id).values(next_attempt_at=from_now())
    )


def registered(database: Database, url: str, *types: EventType) -> tuple[str, str]:
    with database.session() as session:
        endpoint, secret = endpoints.create(session, url=url, events=types, description="")
        return endpoint.id, secret


# -- the event ---------------------------------------------------------------------------------------------------------


def test_the_end_of_a_job_its_event_and_its_deliveries_are_one_transaction(database: Database) -> None:
    registered(database, NOWHERE)
    job_id = accept(database, ["convert_png"], webhook_url="http://job.test/")
    held = claimed(database, job_id, "0")
    crash_after(database, lambda session: steps.succeed(session, held, {"0": OUTCOME}))
    assert job_of(database, job_id).status == JobStatus.PROCESSING
    with database.session(read_only=True) as session:
        assert session.scalars(select(Event)).all() == []
        assert session.scalars(select(WebhookDelivery)).all() == []
    assert messages(database) == []


def test_every_outcome_is_told_once(database: Database) -> None:
    job_id = ended(database)
    assert in_parallel([lambda: _finalized(database, job_id)] * 3) == [False] * 3
    with database.session(read_only=True) as session:
        (event,) = session.scalars(select(Event).where(Event.job_id == job_id))
        assert event.type == EventType.COMPLETED
        assert event.data["status"] == "completed"
        assert len(session.scalars(select(WebhookDelivery)).all()) == 1


def _finalized(database: Database, job_id: UUID) -> bool:
    with database.session() as session:
        return finalize(session, job_id)


def test_a_cancelled_job_is_told_and_a_deleted_one_is_not(database: Database) -> None:
    cancelled = accept(database, ["convert_png"], webhook_url=NOWHERE)
    with database.session() as session:
        jobs.cancel(session, cancelled)
    deleted = accept(database, ["convert_png"], webhook_url=NOWHERE)
    with database.session() as session:
        jobs.stop(session, deleted)
    with database.session(read_only=True) as session:
        assert [(event.type, event.job_id) for event in session.scalars(select(Event))] == [
            (EventType.CANCELLED, cancelled)
        ]


def test_what_is_said_of_a_job_is_erased_with_it_and_that_it_ended_is_told_all_the_same(database: Database) -> None:
    with receiving() as receiver:
        registered(database, receiver.url)
        job_id = ended(database, None)
        for _ in range(2):
            with database.session() as session:
                events.forget(session, job_id)
        with database.session() as session:
            jobs.stop(session, job_id)
            jobs.remove(session, job_id)
        sender(database).attempt(delivery_of(database, job_id).id, "worker")
    (request,) = receiver.requests
    assert request.event["type"] == "job.completed"
    assert request.event["data"] == {"id": str(job_id), "status": "completed", "deleted": True}
    assert read(database)[0] == [str(job_id)]


def test_endpoints_get_the_types_that_they_want_and_each_url_is_told_once(database: Database) -> None:
    every, _ = registered(database, "http://all.test/")
    failures, _ = registered(database, "http://failures.test/", EventType.FAILED)
    off, _ = registered(database, "http://off.test/")
    with database.session() as session:
        endpoints.change(session, off, {"enabled": False})
    ended(database, "http://all.test/")
    with database.session(read_only=True) as session:
        assert [row.endpoint_id for row in session.scalars(select(WebhookDelivery))] == [every]
    assert failures != every


def test_there_is_an_end_to_endpoints(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)
    registered(database, NOWHERE)
    registered(database, NOWHERE)
    with pytest.raises(TooManyEndpoints) as refused:
        registered(database, NOWHERE)
    assert (refused.value.limit, refused.value.value) == (2, 2)


def test_a_body_says_what_the_job_was_when_it_ended_with_fresh_urls(database: Database) -> None:
    job_id = ended(database, tree=["convert_png"])
    change(database, update(Job).where(Job.id == job_id).values(status="pending"))  # repeated since
    body = json.loads(body_of(database, job_id))
    assert (body["type"], body["data"]["status"], body["data"]["id"]) == ("job.completed", "completed", str(job_id))
    assert datetime.fromisoformat(body["timestamp"]) == job_of(database, job_id).finished_at
    (result,) = body["data"]["results"]
    assert result["url"].startswith(f"http://pixtools.test/jobs/{job_id}/results/")
    assert datetime.fromisoformat(result["expires_at"]) > datetime.now(UTC)


def test_a_result_that_is_gone_has_no_url(database: Database) -> None:
    job_id = ended(database)
    with database.session() as session:
        jobs.remove(session, job_id)
    (result,) = json.loads(body_of(database, job_id))["data"]["results"]
    assert (result["url"], result["expires_at"], result["sha256"]) == (None, None, "0" * 64)


def body_of(database: Database, job_id: UUID) -> bytes:
    with database.session(read_only=True) as session:
        event = session.scalars(select(Event).where(Event.job_id == job_id)).one()
        return events.body(session, event, LINKS)


def test_a_body_stays_below_the_limit_whatever_the_job_is(database: Database) -> None:
    job_id = ended(database)
    assert "left_out" not in json.loads(body_of(database, job_id))["data"]
    with database.session() as session:
        event = session.scalars(select(Event).where(Event.job_id == job_id)).one()
        data = event.data
        step, result = data["steps"][0], data["results"][0]
        event.data = {
            **data,
            "operations": [{"op": "resize", "as": "ä" * 60_000}],
            "steps": [{**step, "report": {"text": "x" * 2000}}] * 32,
            "results": [{**result, "name": f"n{number}" * 12, "filename": "€" * 80} for number in range(32)],
        }
    body = body_of(database, job_id)
    told = json.loads(body)["data"]
    assert len(body) <= events.MAX_BODY
    assert told["left_out"][0] == "operations"
    assert "operations" not in told
    assert told["id"] == str(job_id)
    assert told["input"]["filename"] == "photo.jpg"


# -- attempts ----------------------------------------------------------------------------------------------------------


def test_an_event_is_signed_and_taken(database: Database) -> None:
    with receiving(answer(200, b"thank you")) as receiver:
        endpoint_id, secret = registered(database, receiver.url)
        job_id = ended(database, None)
        delivery = delivery_of(database, job_id)
        sender(database).attempt(delivery.id, "worker")
    (request,) = receiver.requests
    assert Webhook(secret).verify(request.body, request.headers)["data"]["id"] == str(job_id)
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
    delivery = fetched(database, delivery.id)
    assert (delivery.status, delivery.endpoint_id, delivery.event_id) == (
        DeliveryStatus.DELIVERED,
        endpoint_id,
        request.headers["webhook-id"],
    )
    (attempt,) = delivery.tries
    assert (attempt.number, attempt.status_code, attempt.error, attempt.answer) == (1, 200, None, "thank you")
    assert 0 < attempt.seconds < 5


def test_what_goes_to_the_url_of_a_job_is_signed_with_the_key_of_the_server(database: Database) -> None:
    with database.session() as session:
        (secret,) = endpoints.secrets(session, None)
    with receiving() as receiver:
        sender(database).attempt(told(database, receiver.url), "worker")
    (request,) = receiver.requests
    Webhook(secret).verify(request.body, request.headers)


def test_during_a_rotation_both_keys_sign_and_never_more_than_two(database: Database) -> None:
    with receiving() as receiver:
        endpoint_id, first = registered(database, receiver.url)
        with database.session() as session:
            second = endpoints.rotate(session, endpoint_id)
            third = endpoints.rotate(session, endpoint_id)
            assert endpoints.secrets(session, endpoint_id) == [third, second]
            last = endpoints.rotate(session, endpoint_id, 0)
        sender(database).attempt(delivery_of(database, ended(database, None)).id, "worker")
    (request,) = receiver.requests
    Webhook(last).verify(request.body, request.headers)
    for old in (first, second, third):
        with pytest.raises(Exception, match="signature"):
            Webhook(old).verify(request.body, request.headers)


FAILING: list[tuple[str, Behaviour, int | None, str]] = [
    ("500", answer(500, b"oh no"), 500, "answered 500"),
    ("404", answer(404), 404, "answered 404"),
    ("redirect", answer(307, location="http://127.0.0.1:1/"), 307, "answered 307; redirects are not followed"),
    ("hang", hang, None, "no complete answer within 1 s"),
    ("drip", drip, None, "no complete answer within 1 s"),
    ("drip_body", drip_body, None, "no complete answer within 1 s"),
    ("reset", reset, None, "the connection broke"),
    ("garble", garble, None, "the answer is not HTTP, or ends early"),
]


@pytest.mark.parametrize(
    ("behaviour", "code", "error"), [case[1:] for case in FAILING], ids=[case[0] for case in FAILING]
)
def test_a_failure_is_written_down_and_tried_again_with_the_same_id(
    database: Database, behaviour: Behaviour, code: int | None, error: str
) -> None:
    with receiving(behaviour, answer(204)) as receiver:
        delivery_id = told(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
        delivery = fetched(database, delivery_id)
        assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 1)
        assert (delivery.tries[0].status_code, delivery.tries[0].error) == (code, error)
        assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], 6)]  # 5 s and a fifth
        sender(database).attempt(delivery_id, "worker")
        assert len(receiver.requests) == 1, "not before it is due"
        due_now(database, delivery_id)
        sender(database).attempt(delivery_id, "worker")
        assert fetched(database, delivery_id).status == DeliveryStatus.DELIVERED
        first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert json.loads(first.body)["data"]["id"] == json.loads(second.body)["data"]["id"]


def test_a_refused_connection_and_an_unknown_name_are_failures_like_any_other(database: Database) -> None:
    for url, error in ((NOWHERE, "the connection was refused"), ("http://a..b/", "the host name does not resolve")):
        delivery_id = told(database, url)
        sender(database).attempt(delivery_id, "worker")
        assert fetched(database, delivery_id).last_error == error
        messages(database)


def test_an_address_that_is_not_allowed_is_never_connected_to(database: Database) -> None:
    with receiving() as receiver:
        delivery_id = told(database, receiver.url)
        sender(database, egress=Egress(frozenset({80, 443}))).attempt(delivery_id, "worker")
        assert receiver.requests == []
    assert "leads to an address" in (fetched(database, delivery_id).last_error or "")


def test_of_a_huge_answer_little_is_kept(database: Database) -> None:
    with receiving(flood) as receiver:
        delivery_id = told(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    (attempt,) = fetched(database, delivery_id).tries
    assert (attempt.error, len(attempt.answer or "")) == (None, 1000)


def test_answers_that_no_database_can_hold_are_kept_readable(database: Database) -> None:
    with receiving(answer(200, b"a\0b\xff")) as receiver:
        delivery_id = told(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    assert fetched(database, delivery_id).tries[0].answer == "a\ufffdb\ufffd"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_where_it_is_longer(database: Database, form: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    with receiving(answer(429, retry_after="120" if form == "seconds" else later)) as receiver:
        delivery_id = told(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    ((_, _, delay),) = messages(database)
    assert 115 <= delay <= 120


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("1", 6),
        ("-5", 6),
        ("soon", 6),
        ("9" * 30, 86_400),
        ("\xa0" * 12 + "5", 6),
        ("\xb2", 6),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999", 6),
    ],
)
def test_an_odd_retry_after_does_no_harm(database: Database, value: str, delay: int) -> None:
    with receiving(answer(503, retry_after=value)) as receiver:
        delivery_id = told(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], delay)]


def test_an_attempt_that_crashes_is_one_of_those_that_a_delivery_has(database: Database) -> None:
    def broken(*_: Any) -> list[str]:
        raise RuntimeError("a fault of ours")

    delivery_id = told(database, "http://name.test/")
    sender(database, egress=Egress(frozenset({80}), resolve=broken), pauses=()).attempt(delivery_id, "worker")
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (DeliveryStatus.EXHAUSTED, webhook.CRASHED)


def test_the_schedule_ends(database: Database) -> None:
    with receiving(answer(400)) as receiver:
        delivery_id, delays = told(database, receiver.url), []
        for _ in range(len(PAUSES) + 2):
            due_now(database, delivery_id)
            sender(database).attempt(delivery_id, "worker")
            delays += [delay for _, _, delay in messages(database)]
        assert len(receiver.requests) == len(PAUSES) + 1
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.attempts, delays) == (DeliveryStatus.EXHAUSTED, 4, [6, 360, 2160])


def test_gone_ends_a_delivery_and_disables_its_endpoint(database: Database) -> None:
    with receiving(answer(410)) as receiver:
        endpoint_id, _ = registered(database, receiver.url)
        first, second = (delivery_of(database, ended(database, None)).id for _ in range(2))
        sender(database).attempt(first, "worker")
        sender(database).attempt(second, "worker")
        assert len(receiver.requests) == 1
    for delivery_id in (first, second):
        assert fetched(database, delivery_id).status == DeliveryStatus.EXHAUSTED
    with database.session(read_only=True) as session:
        endpoint = endpoints.get(session, endpoint_id)
        assert (endpoint.enabled, endpoint.disabled_reason) == (False, "it answered 410")
    with database.session() as session, pytest.raises(EndpointDisabled):
        deliveries.replay(session, first)


def test_an_endpoint_that_moves_takes_its_events_along(database: Database) -> None:
    with receiving() as receiver:
        endpoint_id, _ = registered(database, NOWHERE)
        delivery = delivery_of(database, ended(database, None))
        with database.session() as session:
            endpoints.change(session, endpoint_id, {"url": receiver.url})
        sender(database).attempt(delivery.id, "worker")
        assert receiver.ids == [delivery.event_id]


def test_gone_from_where_an_endpoint_was_before_is_a_failure_like_any_other(database: Database) -> None:
    def move_then_say_gone(handler: Any) -> None:
        with database.session() as session:
            endpoints.change(session, endpoint_id, {"url": new.url})
        answer(410)(handler)

    with receiving(move_then_say_gone) as old, receiving() as new:
        endpoint_id, _ = registered(database, old.url)
        delivery = delivery_of(database, ended(database, None))
        sender(database).attempt(delivery.id, "worker")
        due_now(database, delivery.id)
        sender(database).attempt(delivery.id, "worker")
        assert new.ids == [delivery.event_id]
    with database.session(read_only=True) as session:
        assert endpoints.get(session, endpoint_id).enabled


# -- guards ------------------------------------------------------------------------------------------------------------


def claim(database: Database, delivery_id: str, owner: str, lease: float = 60) -> deliveries.Due | None:
    with database.session() as session:
        return deliveries.claim(session, delivery_id, LINKS, owner=owner, lease_seconds=lease, pauses=PAUSES)


def test_while_an_attempt_is_under_way_no_other_message_begins_one(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    assert claim(database, delivery_id, "ann") is not None
    assert claim(database, delivery_id, "bob") is None
    assert claim(database, delivery_id, "ann") is not None, "the same message, redelivered, goes on"


@ON_POSTGRESQL
def test_of_many_copies_at_once_one_begins(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    calls = [lambda name=name: claim(database, delivery_id, name) for name in "abcdefgh"]
    assert sum(due is not None for due in in_parallel(calls)) == 1


def test_a_worker_that_died_is_replaced_and_its_late_failure_is_listed_and_moves_nothing(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    dead = claim(database, delivery_id, "dead", lease=-1)
    assert dead is not None
    with database.session() as session:
        repairs = reconciler.sweep(session, redispatch_seconds=600, waiting=lambda _: 7)
    assert repairs.webhooks == 1
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], 0)]
    alive = claim(database, delivery_id, "alive")
    assert (alive.number if alive else 0, alive.message_id if alive else "") == (1, dead.message_id)
    failed = deliveries.Outcome(at=datetime.now(UTC), seconds=1, error="late")
    for _ in range(2):  # the answer to a commit may be lost
        with database.session() as session:
            assert deliveries.finish(session, dead, failed, PAUSES) is None
    delivery = fetched(database, delivery_id)
    assert [attempt.error for attempt in delivery.tries] == ["late"]
    assert (delivery.attempts, delivery.attempts_before, delivery.lease_owner) == (1, 1, "alive")
    assert messages(database) == []


def test_a_late_success_counts(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
    dead = claim(database, delivery_id, "dead", lease=-1)
    assert dead is not None
    assert claim(database, delivery_id, "alive") is not None
    taken = deliveries.Outcome(at=datetime.now(UTC), seconds=1, status_code=200)
    with database.session() as session:
        assert deliveries.finish(session, dead, taken, PAUSES) == DeliveryStatus.DELIVERED


def test_a_lost_message_is_written_again_only_when_it_has_been_silent_for_long(database: Database) -> None:
    delivery_id = told(database, NOWHERE)
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
    delivery_id = told(database, NOWHERE)
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
    delivery_id = told(database, NOWHERE)
    change(database, update(WebhookDelivery).values(attempts=3, status=DeliveryStatus.EXHAUSTED))
    with database.session() as session:
        deliveries.replay(session, delivery_id)
    messages(database)
    with database.session() as session:  # that of an attempt before, which the replay has overtaken
        outbox.enqueue(session, DELIVER_WEBHOOK, [delivery_id], delay=3600, queue="webhook_queue")
    change(database, update(WebhookDelivery).values(dispatched_at=from_now(-outbox.UNSENT_SECONDS - 1)))
    assert swept(database) == 1


def test_a_message_that_the_broker_does_not_take_is_not_written_twice(database: Database) -> None:
    delivery_id, other = told(database, NOWHERE), told(database, NOWHERE)
    outbox.keep(database, [outbox.Message(task=DELIVER_WEBHOOK, args=[delivery_id], queue="webhook_queue")])
    change(database, update(WebhookDelivery).values(dispatched_at=from_now(-601), next_attempt_at=from_now(-601)))
    assert swept(database) == 1
    assert [args for _, args, _ in messages(database)] == [[delivery_id], [other]]


def test_what_waits_for_its_time_is_left_alone(database: Database) -> None:
    told(database, NOWHERE)
    change(database, update(WebhookDelivery).values(next_attempt_at=from_now(3600), dispatched_at=from_now(-9999)))
    with database.session() as session:
        assert deliveries.sweep(session, redispatch_seconds=600, is_queue_empty=lambda: True) == 0


def test_who_stands_in_a_long_queue_has_lost_nothing(database: Database) -> None:
    waiting, passed_over, running = (told(database, NOWHERE) for _ in range(3))
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
    ids = [told(database, NOWHERE) for _ in range(5)]
    claim(database, ids[0], "of the process before")
    later = told(database, NOWHERE)
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


# -- hosts that fail ---------------------------------------------------------------------------------------------------


def test_a_breaker_that_is_open_costs_no_attempt_and_nobody_is_asked(database: Database) -> None:
    with receiving(answer(500)) as receiver:
        ids = [told(database, receiver.url) for _ in range(FAILURES + 2)]
        hooks = sender(database)
        for delivery_id in ids:
            hooks.attempt(delivery_id, "worker")
        assert len(receiver.requests) == FAILURES
        messages(database)
        late = ids[-1]
        for times in (1, 2):
            delivery = fetched(database, late)
            assert (delivery.status, delivery.attempts, delivery.postponements) == (DeliveryStatus.PENDING, 0, times)
            due_now(database, late)
            hooks.attempt(late, "worker")
        waits = [delay for _, _, delay in messages(database)]
        assert 60 < waits[0] < waits[1], "who is sent away again stays away longer"
        with receiving() as healthy:
            hooks.attempt(told(database, healthy.url), "worker")
            assert len(healthy.requests) == 1


def test_a_breaker_half_opens_for_one_and_closes(database: Database) -> None:
    breakers = Breakers(failures=FAILURES, reset_seconds=0.3, probe_seconds=5)
    hooks = sender(database, breakers=breakers)
    with receiving(*[answer(500)] * FAILURES, answer(204)) as receiver:
        ids = [told(database, receiver.url) for _ in range(FAILURES + 3)]
        for delivery_id in ids[: FAILURES + 1]:
            hooks.attempt(delivery_id, "worker")
        assert len(receiver.requests) == FAILURES
        time.sleep(0.4)
        for delivery_id in ids[FAILURES + 1 :]:
            hooks.attempt(delivery_id, "worker")
        assert len(receiver.requests) == FAILURES + 2
        assert fetched(database, ids[-1]).status == DeliveryStatus.DELIVERED


def test_answers_below_500_are_no_reason_to_leave_a_host_alone(database: Database) -> None:
    with receiving(answer(404)) as receiver:
        hooks = sender(database)
        for _ in range(FAILURES + 2):
            hooks.attempt(told(database, receiver.url), "worker")
        assert len(receiver.requests) == FAILURES + 2


def test_a_slow_host_holds_no_more_than_its_share(database: Database) -> None:
    hooks = sender(database, host_limits=HostLimits(2, 16), timeout_seconds=3)
    with receiving(hang) as slow, receiving() as fast:
        hooks.attempt(told(database, fast.url), "w")
        stuck = [told(database, slow.url) for _ in range(3)]
        threads = [threading.Thread(target=hooks.attempt, args=(delivery_id, "w")) for delivery_id in stuck[:2]]
        for thread in threads:
            thread.start()
        slow.await_requests(2)
        time.sleep(1.1)
        hooks.attempt(stuck[2], "w")
        assert len(slow.requests) == 2
        third = fetched(database, stuck[2])
        assert (third.attempts, third.postponements) == (0, 0), "it is no fault of the host"
        assert third.next_attempt_at > datetime.now(UTC) + timedelta(seconds=BUSY_SECONDS / 2)
        hooks.attempt(told(database, fast.url), "w")
        assert len(fast.requests) == 2
        slow.closing.set()
        for thread in threads:
            thread.join()


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_keeps_the_id_and_begins_a_new_schedule(database: Database) -> None:
    with receiving(answer(400)) as receiver:
        delivery_id = told(database, receiver.url)
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
        delivery_id = told(database, receiver.url)
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


def worked_off(database: Database) -> list[str]:
    """Run every batch that is asked for; ids of the events whose deliveries are asked for."""
    asked: list[str] = []
    while found := messages(database):
        for task, args, _ in found:
            if task == REPLAY_WEBHOOKS:
                with database.session() as session:
                    replays.run_batch(session, *args)
            else:
                asked.append(fetched(database, args[0]).event_id)
    return asked


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


# -- the log -----------------------------------------------------------------------------------------------------------


def read(database: Database, after: int = 0, limit: int = 100) -> tuple[list[str], int, bool]:
    numbered(database)
    with database.session(read_only=True) as session:
        found, last, more = events.page(session, LINKS, after=after, limit=limit)
        return [event["data"]["id"] for event in found], last, more


def numbered(database: Database) -> None:
    while True:
        with database.session() as session:
            if not events.number(session):
                break


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
            steps.succeed(session, held, {"0": OUTCOME})
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
