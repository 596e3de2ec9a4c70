"""Attempts at real receivers: signatures, every way to fail, and what each answer leads to."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.database import Database
from app.errors import EndpointDisabled
from app.models import (
    DeliveryStatus,
)
from app.services import webhook
from app.services.outbox import DELIVER_WEBHOOK
from app.services.webhooks import deliveries, endpoints, host_limits
from app.services.webhooks.breakers import Breakers
from app.services.webhooks.egress import Egress
from app.services.webhooks.host_limits import BUSY_SECONDS, SLOW_SECONDS, HostLimits
from app.tenancy import DEFAULT_TENANT
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
from tests.support.webhooks import (
    FAILURES,
    NOWHERE,
    PAUSES,
    delivery_of,
    delivery_to,
    due_now,
    ended,
    fetched,
    registered,
    sender,
)
from tests.support.work import (
    messages,
)

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
    assert 0 < attempt.seconds < 20


def test_what_goes_to_the_url_of_a_job_is_signed_with_the_key_of_its_tenant(database: Database) -> None:
    with database.session() as session:
        (secret,) = endpoints.secrets(session, None, DEFAULT_TENANT)
    with receiving() as receiver:
        sender(database).attempt(delivery_to(database, receiver.url), "worker")
    (request,) = receiver.requests
    Webhook(secret).verify(request.body, request.headers)


def test_during_a_rotation_both_keys_sign_and_never_more_than_two(database: Database) -> None:
    with receiving() as receiver:
        endpoint_id, first = registered(database, receiver.url)
        with database.session() as session:
            second = endpoints.rotate(session, endpoint_id)
            third = endpoints.rotate(session, endpoint_id)
            assert endpoints.secrets(session, endpoint_id, DEFAULT_TENANT) == [third, second]
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
    ("hang", hang, None, "no complete answer within 2 s"),
    ("drip", drip, None, "no complete answer within 2 s"),
    ("drip_body", drip_body, None, "no complete answer within 2 s"),
    ("reset", reset, None, "the connection broke"),
    ("garble", garble, None, "the answer is not HTTP, or ends early"),
]


def on(kind: str, case: tuple[str, Behaviour, int | None, str]) -> Any:
    """A case on a kind of database; the wait for a time-out needs no database, and is on one kind enough."""
    name, *given = case
    marks = [pytest.mark.integration] if kind == "postgresql" else []
    if kind == "postgresql" and "within 2 s" in case[-1]:
        marks.append(pytest.mark.full)
    return pytest.param(kind, *given, id=f"{kind}-{name}", marks=marks)


@pytest.mark.parametrize(
    ("database_url", "behaviour", "code", "error"),
    [on(kind, case) for kind in ("sqlite", "postgresql") for case in FAILING],
    indirect=["database_url"],
)
def test_a_failure_is_written_down_and_tried_again_with_the_same_id(
    database: Database, behaviour: Behaviour, code: int | None, error: str
) -> None:
    with receiving(behaviour, answer(204)) as receiver:
        delivery_id = delivery_to(database, receiver.url)
        impatient = {"timeout_seconds": 2} if "within 2 s" in error else {}
        sender(database, **impatient).attempt(delivery_id, "worker")
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
        delivery_id = delivery_to(database, url)
        sender(database).attempt(delivery_id, "worker")
        assert fetched(database, delivery_id).last_error == error
        messages(database)


def test_an_address_that_is_not_allowed_is_never_connected_to(database: Database) -> None:
    with receiving() as receiver:
        delivery_id = delivery_to(database, receiver.url)
        sender(database, egress=Egress(frozenset({80, 443}))).attempt(delivery_id, "worker")
        assert receiver.requests == []
    assert "leads to an address" in (fetched(database, delivery_id).last_error or "")


def test_of_a_huge_answer_little_is_kept(database: Database) -> None:
    with receiving(flood) as receiver:
        delivery_id = delivery_to(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    (attempt,) = fetched(database, delivery_id).tries
    assert (attempt.error, len(attempt.answer or "")) == (None, 1000)


def test_answers_that_no_database_can_hold_are_kept_readable(database: Database) -> None:
    with receiving(answer(200, b"a\0b\xff")) as receiver:
        delivery_id = delivery_to(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    assert fetched(database, delivery_id).tries[0].answer == "a\ufffdb\ufffd"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_where_it_is_longer(database: Database, form: str) -> None:
    began = datetime.now(UTC)
    later = format_datetime(began + timedelta(seconds=120), usegmt=True)
    with receiving(answer(429, retry_after="120" if form == "seconds" else later)) as receiver:
        delivery_id = delivery_to(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    ((_, _, delay),) = messages(database)
    took = (datetime.now(UTC) - began).total_seconds()
    assert 115 - took <= delay <= 120


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
        delivery_id = delivery_to(database, receiver.url)
        sender(database).attempt(delivery_id, "worker")
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery_id], delay)]


def test_an_attempt_that_crashes_is_one_of_those_that_a_delivery_has(database: Database) -> None:
    def broken(*_: Any) -> list[str]:
        raise RuntimeError("a fault of ours")

    delivery_id = delivery_to(database, "http://name.test/")
    sender(database, egress=Egress(frozenset({80}), resolve=broken), pauses=()).attempt(delivery_id, "worker")
    delivery = fetched(database, delivery_id)
    assert (delivery.status, delivery.last_error) == (DeliveryStatus.EXHAUSTED, webhook.CRASHED)


def test_the_schedule_ends(database: Database) -> None:
    with receiving(answer(400)) as receiver:
        delivery_id, delays = delivery_to(database, receiver.url), []
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


# -- hosts that fail ---------------------------------------------------------------------------------------------------


def test_a_breaker_that_is_open_costs_no_attempt_and_nobody_is_asked(database: Database) -> None:
    with receiving(answer(500)) as receiver:
        ids = [delivery_to(database, receiver.url) for _ in range(FAILURES + 2)]
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
            hooks.attempt(delivery_to(database, healthy.url), "worker")
            assert len(healthy.requests) == 1


def test_a_breaker_half_opens_for_one_and_closes(database: Database) -> None:
    breakers = Breakers(failures=FAILURES, reset_seconds=60, probe_seconds=20)
    hooks = sender(database, breakers=breakers)
    with receiving(*[answer(500)] * FAILURES, answer(204)) as receiver:
        ids = [delivery_to(database, receiver.url) for _ in range(FAILURES + 3)]
        for delivery_id in ids[: FAILURES + 1]:
            hooks.attempt(delivery_id, "worker")
        assert len(receiver.requests) == FAILURES
        (breaker,) = breakers._own.values()
        breaker._state_storage.opened_at -= timedelta(seconds=61)
        for delivery_id in ids[FAILURES + 1 :]:
            hooks.attempt(delivery_id, "worker")
        assert len(receiver.requests) == FAILURES + 2
        assert fetched(database, ids[-1]).status == DeliveryStatus.DELIVERED


def test_answers_below_500_are_no_reason_to_leave_a_host_alone(database: Database) -> None:
    with receiving(answer(404)) as receiver:
        hooks = sender(database)
        for _ in range(FAILURES + 2):
            hooks.attempt(delivery_to(database, receiver.url), "worker")
        assert len(receiver.requests) == FAILURES + 2


def test_a_slow_host_holds_no_more_than_its_share(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]  # by the clock of the limits
    monkeypatch.setattr(host_limits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    hooks = sender(database, host_limits=HostLimits(2, 16))
    with receiving(hang) as slow, receiving() as fast:
        hooks.attempt(delivery_to(database, fast.url), "w")
        stuck = [delivery_to(database, slow.url) for _ in range(3)]
        threads = [threading.Thread(target=hooks.attempt, args=(delivery_id, "w")) for delivery_id in stuck[:2]]
        for thread in threads:
            thread.start()
        slow.await_requests(2)
        now[0] += SLOW_SECONDS + 0.1
        began = datetime.now(UTC)
        hooks.attempt(stuck[2], "w")
        assert len(slow.requests) == 2
        third = fetched(database, stuck[2])
        assert (third.attempts, third.postponements) == (0, 0), "it is not a fault of the host"
        assert third.next_attempt_at > began + timedelta(seconds=BUSY_SECONDS / 2)
        hooks.attempt(delivery_to(database, fast.url), "w")
        assert len(fast.requests) == 2
        slow.closing.set()
        for thread in threads:
            thread.join()
