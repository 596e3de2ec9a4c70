"""Deliveries: a row for each event that is to be sent to a receiver, and the guards around each attempt.

Like a step, a delivery is claimed with a lease by the worker that has its message. So a copy of the message, or a
worker that was believed dead, does no harm. The schedule is in the row and in the outbox, never in the broker.

A transaction that locks several rows locks them in this order: endpoint, event, delivery, replay.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import and_, delete, func, literal, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from app import metrics
from app.config import DELIVERY_JITTER, delivery_seconds
from app.database import UtcDateTime, after_commit, from_now, rows_changed
from app.errors import InvalidCursor
from app.models import (
    DeliveryAttempt,
    DeliveryStatus,
    Event,
    OutboxMessage,
    WebhookDelivery,
    WebhookEndpoint,
)
from app.operations import Queue
from app.services import outbox
from app.services.ids import DELIVERY
from app.services.storage.links import DownloadLinks
from app.services.webhooks import endpoints, events
from app.services.webhooks.egress import origin_of
from app.services.webhooks.endpoints import Target

log = logging.getLogger(__name__)

LONGEST_RETRY_AFTER = 86_400.0  # seconds; the longest `Retry-After` that is followed
LONGEST_POSTPONEMENT = 3600.0  # seconds
EARLY_SECONDS = 1.0  # tolerance between the clock readings of a delivery and of its message
MAX_PAGE = 100
KEPT_ATTEMPTS = 100  # latest attempts of a delivery: it can be replayed any number of times
BATCH = 200  # deliveries in one transaction
ENDPOINT_OFF = "the endpoint is disabled"
TOO_LATE = "the host did not come back in time"
#: loads only the columns of the event that a delivery shows, without the large snapshot of the job
EVENT_NAMED = joinedload(WebhookDelivery.event).load_only(Event.type, Event.job_id)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A claimed attempt."""

    delivery_id: str
    endpoint_id: str | None
    owner: str
    #: number of this attempt, from 1
    number: int
    url: str
    message_id: str
    job_id: UUID | None
    #: request body; empty: it could not be created
    body: bytes
    secrets: Sequence[str]

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL, which may be logged."""
        return origin_of(self.url)


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """The outcome of one attempt."""

    at: datetime
    seconds: float
    status_code: int | None = None
    #: None: the receiver has accepted it
    error: str | None = None
    answer: str | None = None
    #: seconds that the receiver asked us to wait
    retry_after: float | None = None
    #: True: the receiver wants no more events
    gone: bool = False


def create(session: Session, event: Event, target: Target) -> WebhookDelivery:
    """Write a delivery of an event, and the message that starts it."""
    delivery = WebhookDelivery(
        id=DELIVERY.new(),
        tenant=event.tenant,
        event_id=event.id,
        endpoint_id=target.endpoint_id,
        url=target.url,
        status=DeliveryStatus.PENDING,
        created_at=from_now(),
        next_attempt_at=from_now(),
        dispatched_at=from_now(),
    )
    session.add(delivery)
    session.flush()
    _enqueue(session, delivery.id)
    return delivery


def _enqueue(session: Session, delivery_id: str, delay: float = 0) -> None:
    if delay:
        outbox.enqueue(session, outbox.DELIVER_WEBHOOK, [delivery_id], delay=delay, queue=Queue.WEBHOOK.value)
    else:
        outbox.send_after_commit(session, outbox.DELIVER_WEBHOOK, [delivery_id], queue=Queue.WEBHOOK.value)


def claim(
    session: Session,
    delivery_id: str,
    links: DownloadLinks,
    *,
    owner: str,
    lease_seconds: float,
    pauses: Sequence[float],
) -> Due | None:
    """Claim an attempt.

    Args:
        session: the transaction.
        delivery_id: id of the delivery.
        links: makes the URLs in the event.
        owner: owner of the lease; the same for every copy of one message.
        lease_seconds: seconds after which another message may claim the delivery.
        pauses: schedule in seconds, from the first attempt on; some time after its end the delivery is given up.

    Returns:
        None if there is nothing to do: the delivery has ended, is not due yet, or another worker holds it.
    """
    found = _claimable(session, delivery_id, owner)
    if found is None:
        return None
    delivery, event = found
    endpoint = session.get(WebhookEndpoint, delivery.endpoint_id) if delivery.endpoint_id else None
    if endpoint is not None:
        delivery.url = endpoint.url
        if not endpoint.enabled:
            _give_up(session, delivery, ENDPOINT_OFF)
            return None
    if delivery.expires_at is None:
        delivery.expires_at = from_now(delivery_seconds(pauses))
    delivery.lease_owner, delivery.lease_until = owner, from_now(lease_seconds)
    body, secrets = _content(session, event, delivery.endpoint_id, links)
    return Due(
        delivery_id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        owner=owner,
        number=delivery.attempts + 1,
        url=delivery.url,
        message_id=event.id,
        job_id=event.job_id,
        body=body,
        secrets=secrets,
    )


def _content(
    session: Session, event: Event, endpoint_id: str | None, links: DownloadLinks
) -> tuple[bytes, Sequence[str]]:
    try:
        return events.body(session, event, links), endpoints.secrets(session, endpoint_id, event.tenant)
    except SQLAlchemyError:
        raise
    except Exception:  # the attempt fails and counts; otherwise it would be repeated for ever
        log.exception("webhook_content_failed", extra={"webhook_id": event.id})
        return b"", ()


def _lock(session: Session, delivery_id: str) -> WebhookDelivery | None:
    """A delivery that has not ended, locked until the end of the transaction."""
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    return delivery if delivery is not None and delivery.status == DeliveryStatus.PENDING else None


def _claimable(session: Session, delivery_id: str, owner: str) -> tuple[WebhookDelivery, Event] | None:
    """A delivery that is due and not being attempted, locked until the end of the transaction, and its event."""
    free = or_(
        WebhookDelivery.lease_until.is_(None),
        WebhookDelivery.lease_until < from_now(),
        WebhookDelivery.lease_owner == owner,
    )
    due = (WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.next_attempt_at < from_now(EARLY_SECONDS))
    query = select(WebhookDelivery, Event).join(Event, Event.id == WebhookDelivery.event_id)
    row = session.execute(
        query.where(WebhookDelivery.id == delivery_id, free, *due).with_for_update(of=WebhookDelivery)
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def finish(session: Session, due: Due, outcome: AttemptResult, pauses: Sequence[float]) -> DeliveryStatus | None:
    """Record the outcome of an attempt, and its consequences.

    An attempt that was overtaken by another one, or by a replay, is still listed, and if the receiver has accepted the
    event, the delivery has succeeded. But it does not change when the next attempt is due.

    Args:
        session: the transaction.
        due: the attempt.
        outcome: outcome of the attempt.
        pauses: seconds after the first, second, … failed attempt; after the last pause the delivery is given up.

    Returns:
        The state of the delivery; None if the attempt was overtaken and changes nothing.
    """
    if outcome.gone and due.endpoint_id:
        reason = f"it answered {outcome.status_code}"
        # An endpoint whose URL was changed meanwhile gets the next attempt at the new one
        outcome = replace(outcome, gone=endpoints.disable(session, due.endpoint_id, url=due.url, reason=reason))
    # True if this runs again because the answer to the commit was lost
    written = select(DeliveryAttempt.number).where(
        DeliveryAttempt.delivery_id == due.delivery_id, DeliveryAttempt.at == outcome.at
    )
    found = select(WebhookDelivery, written.exists()).where(WebhookDelivery.id == due.delivery_id)
    row = session.execute(found.with_for_update(of=WebhookDelivery)).one_or_none()
    if row is None:
        return None
    delivery, is_written = row
    overtaken = delivery.status != DeliveryStatus.PENDING or delivery.lease_owner != due.owner
    if not is_written:
        _write(session, delivery, outcome)
        delivery.attempts_before += overtaken
    if overtaken and (outcome.error is not None or delivery.status == DeliveryStatus.DELIVERED):
        return None
    _conclude(session, delivery, outcome, pauses)
    return DeliveryStatus(delivery.status)


def _write(session: Session, delivery: WebhookDelivery, outcome: AttemptResult) -> None:
    delivery.attempts += 1
    if delivery.attempts > KEPT_ATTEMPTS:
        forgotten = DeliveryAttempt.number <= delivery.attempts - KEPT_ATTEMPTS
        session.execute(delete(DeliveryAttempt).where(DeliveryAttempt.delivery_id == delivery.id, forgotten))
    session.add(
        DeliveryAttempt(
            delivery_id=delivery.id,
            number=delivery.attempts,
            at=outcome.at,
            seconds=outcome.seconds,
            status_code=outcome.status_code,
            error=outcome.error,
            answer=outcome.answer,
        )
    )


def _conclude(session: Session, delivery: WebhookDelivery, outcome: AttemptResult, pauses: Sequence[float]) -> None:
    """Change the delivery after an attempt that holds the lease, or after a success."""
    delivery.last_status_code, delivery.last_error = outcome.status_code, outcome.error
    delivery.postponements = 0
    _release(delivery)
    if outcome.error is None:
        delivery.status, delivery.delivered_at = DeliveryStatus.DELIVERED, from_now()
    elif outcome.gone or delivery.attempts - delivery.attempts_before > len(pauses):
        _exhaust(delivery, outcome.error)
    else:
        pause = pauses[delivery.attempts - delivery.attempts_before - 1]
        _again(session, delivery, max(_jittered(pause), min(outcome.retry_after or 0, LONGEST_RETRY_AFTER)))


def _release(delivery: WebhookDelivery) -> None:
    delivery.lease_owner, delivery.lease_until = None, None


def _exhaust(delivery: WebhookDelivery, error: str) -> None:
    _release(delivery)
    delivery.status, delivery.last_error = DeliveryStatus.EXHAUSTED, error
    delivery.next_attempt_at = from_now()  # no attempt will come; the log keeps the event for a while from this time on


def _give_up(session: Session, delivery: WebhookDelivery, error: str) -> None:
    """End a delivery without an attempt, and log that, since no attempt is logged."""
    _exhaust(delivery, error)
    fields = {"delivery_id": delivery.id, "webhook_id": delivery.event_id, "error": error}
    after_commit(session, partial(log.warning, "webhook_given_up", extra=fields))
    after_commit(session, metrics.WEBHOOK_ATTEMPTS.labels("given_up").inc)


def _is_over(session: Session, delivery: WebhookDelivery, seconds: float) -> bool:
    """Whether a delivery will be given up within `seconds`."""
    if delivery.expires_at is None:
        return False
    return bool(session.scalar(select(literal(delivery.expires_at, UtcDateTime) < from_now(seconds))))


def _again(session: Session, delivery: WebhookDelivery, seconds: float) -> None:
    if _is_over(session, delivery, seconds):
        _give_up(session, delivery, TOO_LATE)
        return
    delivery.next_attempt_at = from_now(seconds)
    delivery.dispatched_at = from_now(seconds)
    session.flush()
    _enqueue(session, delivery.id, seconds)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - DELIVERY_JITTER, 1 + DELIVERY_JITTER)


def postpone(session: Session, due: Due, seconds: float, *, grows: bool) -> None:
    """Postpone an attempt that was not made, and does not count.

    Args:
        session: the transaction.
        due: the attempt.
        seconds: seconds until the host may get a request.
        grows: whether the wait grows each time that the delivery is postponed.
    """
    delivery = _lock(session, due.delivery_id)
    if delivery is None or delivery.lease_owner != due.owner:
        return
    _release(delivery)
    longer = 2.0 ** min(delivery.postponements, 12) if grows else 1.0
    delivery.postponements += grows
    longest = max(seconds, LONGEST_POSTPONEMENT)
    _again(session, delivery, min(seconds * longer, longest) * random.uniform(1, 1 + DELIVERY_JITTER))


def sweep(session: Session, *, redispatch_seconds: float, is_queue_empty: Callable[[], bool]) -> int:
    """Write messages for deliveries whose message was lost or whose worker has died; returns their number.

    Args:
        session: the transaction.
        redispatch_seconds: seconds without activity after which a message may be lost; the first message of a delivery
            may be lost sooner, since it was no row of the outbox.
        is_queue_empty: called only if needed; in a queue that is not empty, a message is lost if a later one was
            received.
    """
    died = WebhookDelivery.lease_until < from_now()
    never_sent = and_(
        WebhookDelivery.attempts == WebhookDelivery.attempts_before,  # earlier attempts belong to an earlier schedule
        WebhookDelivery.dispatched_at < from_now(-min(redispatch_seconds, outbox.UNSENT_SECONDS)),
    )
    lost = or_(never_sent, WebhookDelivery.dispatched_at < from_now(-redispatch_seconds))
    # messages in the outbox are not lost: a broker in alarm reports an empty queue, but takes nothing
    of_deliveries = OutboxMessage.task == outbox.DELIVER_WEBHOOK
    kept = select(OutboxMessage.args[0].as_string()).where(of_deliveries, outbox.kept_now())
    silent = and_(WebhookDelivery.lease_until.is_(None), lost, WebhookDelivery.id.not_in(kept))
    due = [WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.next_attempt_at < from_now()]
    if session.scalar(select(WebhookDelivery.id).where(*due, silent).limit(1)) and not is_queue_empty():
        running = aliased(WebhookDelivery)
        reached = select(func.max(running.dispatched_at)).where(running.lease_until > from_now()).scalar_subquery()
        silent = and_(silent, WebhookDelivery.dispatched_at < reached)
    query = (
        select(WebhookDelivery)
        .where(*due, or_(died, silent))
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    found = session.scalars(query).all()
    for delivery in found:
        _release(delivery)
        delivery.dispatched_at = from_now()
        _enqueue(session, delivery.id)
    return len(found)


def resume(session: Session) -> int:
    """Restart every delivery that is due, at the start of a process whose broker was in memory.

    They get an expired lease, so that the sweep finds them, a batch in each transaction. Deliveries that are not due
    yet have their messages in the outbox.

    Returns:
        The number of deliveries.
    """
    due = [WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.next_attempt_at <= from_now()]
    over = update(WebhookDelivery).where(*due).values(lease_owner=None, lease_until=from_now(-1))
    return rows_changed(session, over.execution_options(synchronize_session=False))


def get(session: Session, delivery_id: str) -> WebhookDelivery:
    """One delivery with its event and attempts.

    Raises:
        DeliveryNotFound: no delivery has this id.
    """
    query = select(WebhookDelivery).where(WebhookDelivery.id == DELIVERY.checked(delivery_id))
    loaded = query.options(EVENT_NAMED, selectinload(WebhookDelivery.tries)).execution_options(populate_existing=True)
    delivery = session.scalar(loaded)
    if delivery is None:
        raise DELIVERY.unknown(delivery_id)
    return delivery


def list_page(
    session: Session,
    *,
    limit: int,
    cursor: str | None = None,
    status: DeliveryStatus | None = None,
    endpoint_id: str | None = None,
    job_id: Any = None,
) -> tuple[list[WebhookDelivery], str | None]:
    """A page of deliveries without their attempts, newest first, and the cursor of the next page.

    Raises:
        InvalidCursor: the cursor is not the id of a delivery.
    """
    query = select(WebhookDelivery).options(EVENT_NAMED).order_by(WebhookDelivery.id.desc()).limit(limit + 1)
    if status:
        query = query.where(WebhookDelivery.status == status)
    if endpoint_id:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if job_id:
        query = query.where(WebhookDelivery.event_id.in_(select(Event.id).where(Event.job_id == job_id)))
    if cursor:
        if not DELIVERY.is_one(cursor):
            raise InvalidCursor
        query = query.where(WebhookDelivery.id < cursor)
    found = list(session.scalars(query))
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def replay(session: Session, delivery_id: str) -> WebhookDelivery:
    """Send an event again, or now if it is still waiting, with the same `webhook-id` and a new schedule.

    Raises:
        DeliveryNotFound: no delivery has this id.
        EndpointDisabled: the endpoint is disabled.
    """
    endpoint_id = get(session, delivery_id).endpoint_id
    if endpoint_id:
        endpoints.enabled(session, endpoint_id)
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True, populate_existing=True)
    if delivery is None:
        raise DELIVERY.unknown(delivery_id)
    restart(session, delivery)
    return get(session, delivery_id)


def restart(session: Session, delivery: WebhookDelivery) -> None:
    """Start a new schedule now."""
    _release(delivery)
    delivery.status, delivery.delivered_at, delivery.expires_at = DeliveryStatus.PENDING, None, None
    delivery.attempts_before, delivery.postponements = delivery.attempts, 0
    _again(session, delivery, 0)
