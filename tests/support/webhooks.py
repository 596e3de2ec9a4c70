"""Deliveries of events in a real database, and helpers for their tests."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from sqlalchemy import update

from app.database import Database, from_now
from app.models import (
    DeliveryStatus,
    EventType,
    WebhookDelivery,
)
from app.services.outbox import DELIVER_WEBHOOK, REPLAY_WEBHOOKS
from app.services.storage.links import ApiLinks
from app.services.webhook import WebhookSender
from app.services.webhooks import deliveries, endpoints, events, replays
from app.services.webhooks.breakers import Breakers
from app.services.webhooks.deliveries import AttemptResult, Due
from app.services.webhooks.egress import Egress
from app.services.webhooks.host_limits import HostLimits
from app.tenancy import DEFAULT_TENANT

from .work import (
    accept,
    change,
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
        timeout_seconds=20,  # a busy machine takes its time
        pauses=PAUSES,
    )
    return replace(usual, **changes)


def ended(database: Database, url: str | None = NOWHERE, tree: Sequence[Any] = ("convert_png",)) -> UUID:
    """A completed job, with a webhook."""
    job_id = accept(database, list(tree), webhook_url=url)
    run_task(database, job_id, "0")
    return job_id


def delivery_of(database: Database, job_id: UUID) -> WebhookDelivery:
    with database.session(read_only=True) as session:
        (found,), _ = deliveries.list_page(session, limit=10, job_id=job_id)
        return found


def delivery_to(database: Database, url: str) -> str:
    """The id of the only delivery of a completed job; its message is removed from the outbox."""
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
    with database.session(tenant=DEFAULT_TENANT) as session:
        endpoint, secret = endpoints.create(session, url=url, events=types, description="")
        return endpoint.id, secret


# -- guards ------------------------------------------------------------------------------------------------------------


def claim(database: Database, delivery_id: str, owner: str, lease: float = 60) -> deliveries.Due | None:
    with database.session() as session:
        return deliveries.claim(session, delivery_id, LINKS, owner=owner, lease_seconds=lease, pauses=PAUSES)


# -- replay ------------------------------------------------------------------------------------------------------------


def worked_off(database: Database) -> list[str]:
    """Run all batches of replays in the outbox; returns the ids of the events to be delivered."""
    asked: list[str] = []
    while found := messages(database):
        for task, args, _ in found:
            if task == REPLAY_WEBHOOKS:
                with database.session() as session:
                    replays.run_batch(session, *args)
            else:
                asked.append(fetched(database, args[0]).event_id)
    return asked


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


def begun(database: Database, delivery_id: str, owner: str = "worker") -> Due:
    due = claim(database, delivery_id, owner)
    assert due is not None
    return due


def finish(database: Database, due: Due, **outcome: Any) -> DeliveryStatus | None:
    with database.session() as session:
        return deliveries.finish(session, due, AttemptResult(at=datetime.now(UTC), seconds=1, **outcome), PAUSES)


def expire(database: Database, delivery_id: str) -> None:
    over = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    change(database, over.values(expires_at=from_now(-1), next_attempt_at=from_now(-2)))
