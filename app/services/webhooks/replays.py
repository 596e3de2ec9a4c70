"""Replays: rows that define which events an endpoint gets again. They are processed in batches.

A message names the place where its batch begins. The first copy of a message advances the row in the transaction that
sends the batch; other copies find nothing left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.database import from_now
from app.models import DeliveryStatus, Event, EventType, WebhookDelivery, WebhookEndpoint, WebhookReplay
from app.operations import Queue
from app.services import outbox
from app.services.ids import new_id
from app.services.webhooks import deliveries, endpoints, events
from app.services.webhooks.endpoints import Target

BATCH = 200  # events in one transaction
LISTED = 100  # newest replays of an endpoint


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The events to send again."""

    endpoint_id: str
    since: datetime
    #: None: up to now
    until: datetime | None
    #: True: skip events that the endpoint has accepted
    missed_only: bool


def start(session: Session, wanted: Wanted) -> WebhookReplay:
    """Have all events of a period sent again, in the background.

    Raises:
        EndpointNotFound: no endpoint has this id.
        EndpointDisabled: the endpoint is disabled.
    """
    endpoint = endpoints.enabled(session, wanted.endpoint_id)
    replay = WebhookReplay(
        id=new_id("rpl"),
        endpoint_id=endpoint.id,
        since=wanted.since,
        until=wanted.until or from_now(),
        missed_only=wanted.missed_only,
        after=events.id_before(wanted.since),  # where reading of the index of ids begins
        events=0,
        created_at=from_now(),
        dispatched_at=from_now(),
    )
    session.add(replay)
    session.flush()
    _enqueue(session, replay)
    session.refresh(replay)
    return replay


def _enqueue(session: Session, replay: WebhookReplay) -> None:
    replay.dispatched_at = from_now()
    outbox.enqueue(session, outbox.REPLAY_WEBHOOKS, [replay.id, replay.after], queue=Queue.WEBHOOK.value)


def run_batch(session: Session, replay_id: str, after: str) -> None:
    """Send the next events again and request the batch after them, unless another copy of the message has done so."""
    of_endpoint = select(WebhookReplay.endpoint_id).where(WebhookReplay.id == replay_id)
    endpoint = endpoints.locked(session, session.scalar(of_endpoint))  # one batch of an endpoint at a time
    if endpoint is None:
        return
    unfinished = [WebhookReplay.id == replay_id, WebhookReplay.after == after, WebhookReplay.finished_at.is_(None)]
    replay = session.scalar(select(WebhookReplay).where(*unfinished).with_for_update(skip_locked=True))
    if replay is None:
        return
    if not endpoint.enabled:
        replay.finished_at, replay.error = from_now(), deliveries.ENDPOINT_OFF
        return
    wanted = _events(endpoint, replay).order_by(Event.id).limit(BATCH)
    found = session.scalars(wanted.with_for_update(read=True, key_share=True, of=Event)).all()
    for event in found:
        _send_again(session, event, endpoint)
    replay.events += len(found)
    if len(found) < BATCH:
        replay.finished_at = from_now()
    else:
        replay.after = found[-1].id
        _enqueue(session, replay)


def _events(endpoint: WebhookEndpoint, replay: WebhookReplay) -> Any:
    query = select(Event).where(Event.tenant == endpoint.tenant)
    query = query.where(Event.created_at >= replay.since, Event.created_at < replay.until)
    query = query.where(Event.id.between(replay.after, events.id_after(replay.until)), Event.id != replay.after)
    query = query.where(Event.type != EventType.TEST)
    if endpoint.events:
        query = query.where(Event.type.in_(endpoint.events))
    if replay.missed_only:
        query = query.where(~_delivery(Event.id, endpoint).where(_is(DeliveryStatus.DELIVERED)).exists())
    return query


def _delivery(event_id: Any, endpoint: WebhookEndpoint) -> Any:
    return select(WebhookDelivery).where(
        WebhookDelivery.event_id == event_id, WebhookDelivery.endpoint_id == endpoint.id
    )


def _is(status: DeliveryStatus) -> Any:
    return WebhookDelivery.status == status


def _send_again(session: Session, event: Event, endpoint: WebhookEndpoint) -> None:
    delivery = session.scalar(_delivery(event.id, endpoint).with_for_update())
    if delivery is None:
        deliveries.create(session, event, Target(endpoint_id=endpoint.id, url=endpoint.url))
    elif delivery.status != DeliveryStatus.PENDING:
        deliveries.restart(session, delivery)


def sweep(session: Session, *, redispatch_seconds: float) -> int:
    """Write messages for replays that have been silent for long; returns their number.

    If the message of a replay merely waits in a long queue, the copy does no harm.
    """
    silent = WebhookReplay.dispatched_at < from_now(-redispatch_seconds)
    return _send(session, _unfinished().where(silent).limit(BATCH))


def resume(session: Session) -> int:
    """Request the next batch of every replay, at the start of a process whose broker was in memory."""
    return _send(session, _unfinished())


def _unfinished() -> Any:
    return select(WebhookReplay).where(WebhookReplay.finished_at.is_(None)).with_for_update(skip_locked=True)


def _send(session: Session, query: Any) -> int:
    found: Sequence[WebhookReplay] = session.scalars(query).all()
    for replay in found:
        _enqueue(session, replay)
    return len(found)


def newest(session: Session, endpoint_id: str) -> list[WebhookReplay]:
    """The replays of an endpoint, newest first.

    Raises:
        EndpointNotFound: no endpoint has this id.
    """
    endpoint = endpoints.get(session, endpoint_id)
    query = select(WebhookReplay).where(WebhookReplay.endpoint_id == endpoint.id)
    return list(session.scalars(query.order_by(WebhookReplay.id.desc()).limit(LISTED)))


def remove_old(session: Session, kept_seconds: float) -> int:
    """Delete a batch of replays that ended long ago; returns their number."""
    old = select(WebhookReplay.id).where(WebhookReplay.finished_at < from_now(-kept_seconds)).limit(BATCH)
    ids = session.scalars(old).all()
    if ids:
        session.execute(delete(WebhookReplay).where(WebhookReplay.id.in_(ids)))
    return len(ids)
