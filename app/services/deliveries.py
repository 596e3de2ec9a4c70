"""Deliveries: rows that say what is still to be sent to whom, and the guards around each attempt.

Like a step, a delivery is claimed with a lease by the message that is about it: a copy of the message, or a worker that
was thought dead, changes nothing. The schedule is in the row and in the outbox, never in the broker.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, aliased, joinedload, selectinload
from uuid_utils.compat import uuid7

from app.database import from_now
from app.errors import DeliveryNotFound, InvalidCursor
from app.models import (
    DeliveryAttempt,
    DeliveryStatus,
    Event,
    EventType,
    OutboxMessage,
    WebhookDelivery,
    WebhookEndpoint,
)
from app.operations import Queue
from app.services import endpoints, events, outbox
from app.services.egress import origin_of
from app.services.endpoints import Target
from app.services.links import DownloadLinks

JITTER = 0.2  # of a pause, both ways: what failed together is not tried again together
LONGEST_RETRY_AFTER = 86_400.0  # seconds that a receiver may ask for
LONGEST_POSTPONEMENT = 3600.0  # seconds
EARLY_SECONDS = 1.0  # tolerance between the clock readings of a delivery and of its message
MAX_PAGE = 100
BATCH = 200  # deliveries or events in one transaction
ENDPOINT_OFF = "the endpoint is disabled"


@dataclass(frozen=True, kw_only=True)
class Due:
    """One attempt that this message may make."""

    delivery_id: str
    endpoint_id: str | None
    owner: str
    #: of this attempt, from 1
    number: int
    url: str
    message_id: str
    job_id: UUID | None
    body: bytes
    secrets: Sequence[str]

    @property
    def origin(self) -> str:
        """Scheme, host and port: what is asked, and what a log may tell."""
        return origin_of(self.url)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one attempt."""

    at: datetime
    seconds: float
    status_code: int | None = None
    #: None: the receiver has taken it
    error: str | None = None
    answer: str | None = None
    #: seconds that the receiver asks to wait
    retry_after: float | None = None
    #: the receiver wants nothing more
    gone: bool = False


def create(session: Session, event: Event, target: Target) -> WebhookDelivery:
    """Write that an event is to be sent, and the message that has it sent at once."""
    delivery = WebhookDelivery(
        id=f"dlv_{uuid7().hex}",
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
    outbox.enqueue(session, outbox.DELIVER_WEBHOOK, [delivery_id], delay=delay, queue=Queue.WEBHOOK.value)


def claim(session: Session, delivery_id: str, links: DownloadLinks, *, owner: str, lease_seconds: float) -> Due | None:
    """Begin an attempt.

    Returns:
        None when there is nothing to do: it has ended, is not due yet, or another message is at it.
    """
    delivery = _lock(session, delivery_id)
    if delivery is None or not _claimable(session, delivery, owner):
        return None
    endpoint = session.get(WebhookEndpoint, delivery.endpoint_id) if delivery.endpoint_id else None
    if endpoint is not None:
        delivery.url = endpoint.url
        if not endpoint.enabled:
            _exhaust(delivery, ENDPOINT_OFF)
            return None
    delivery.lease_owner, delivery.lease_until = owner, from_now(lease_seconds)
    event = session.get_one(Event, delivery.event_id)
    return Due(
        delivery_id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        owner=owner,
        number=delivery.attempts + 1,
        url=delivery.url,
        message_id=event.id,
        job_id=event.job_id,
        body=events.body(session, event, links),
        secrets=endpoints.secrets(session, delivery.endpoint_id),
    )


def _lock(session: Session, delivery_id: str) -> WebhookDelivery | None:
    """A delivery that is still to be made, locked until the end of the transaction."""
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    return delivery if delivery is not None and delivery.status == DeliveryStatus.PENDING else None


def _claimable(session: Session, delivery: WebhookDelivery, owner: str) -> bool:
    free = or_(
        WebhookDelivery.lease_until.is_(None),
        WebhookDelivery.lease_until < from_now(),
        WebhookDelivery.lease_owner == owner,
    )
    due = WebhookDelivery.next_attempt_at < from_now(EARLY_SECONDS)
    return session.scalar(select(WebhookDelivery.id).where(WebhookDelivery.id == delivery.id, free, due)) is not None


def finish(session: Session, due: Due, outcome: Outcome, pauses: Sequence[float]) -> DeliveryStatus | None:
    """Write down what came of an attempt, and what follows from it.

    Args:
        session: the transaction.
        due: the attempt.
        outcome: what came of it.
        pauses: seconds after the first, second, … failed attempt; after so many pauses it is given up.

    Returns:
        None when another attempt has overtaken this one, and it failed.
    """
    delivery = _lock(session, due.delivery_id)
    if delivery is None or (delivery.lease_owner != due.owner and outcome.error is not None):
        return None
    delivery.attempts += 1
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
    if outcome.gone and delivery.endpoint_id:
        endpoints.disable(session, delivery.endpoint_id, f"it answered {outcome.status_code}")
    return DeliveryStatus(delivery.status)


def _release(delivery: WebhookDelivery) -> None:
    delivery.lease_owner, delivery.lease_until = None, None


def _exhaust(delivery: WebhookDelivery, error: str) -> None:
    _release(delivery)
    delivery.status, delivery.last_error = DeliveryStatus.EXHAUSTED, error


def _again(session: Session, delivery: WebhookDelivery, seconds: float) -> None:
    delivery.next_attempt_at = from_now(seconds)
    delivery.dispatched_at = from_now(seconds)
    session.flush()
    _enqueue(session, delivery.id, seconds)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)


def postpone(session: Session, due: Due, seconds: float, *, grows: bool) -> None:
    """Put an attempt off that was not made; it is none of those that a delivery has.

    Args:
        session: the transaction.
        due: the attempt.
        seconds: until the host may be asked.
        grows: whether a delivery that is put off again and again waits longer each time.
    """
    delivery = _lock(session, due.delivery_id)
    if delivery is None or delivery.lease_owner != due.owner:
        return
    _release(delivery)
    longer = 2.0 ** min(delivery.postponements, 12) if grows else 1.0
    delivery.postponements += grows
    _again(session, delivery, min(seconds * longer, max(seconds, LONGEST_POSTPONEMENT)) * random.uniform(1, 1 + JITTER))


def sweep(session: Session, *, redispatch_seconds: float, is_queue_empty: Callable[[], bool]) -> int:
    """Write messages for deliveries whose own one is lost, or whose worker has died; how many that was.

    Args:
        session: the transaction.
        redispatch_seconds: after so long without a sign of life a message may be lost.
        is_queue_empty: otherwise it is lost only if the queue has passed over it; asked only if that matters.
    """
    died = WebhookDelivery.lease_until < from_now()
    silent = and_(WebhookDelivery.lease_until.is_(None), WebhookDelivery.dispatched_at < from_now(-redispatch_seconds))
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
    """Ask for every delivery that is still to be made, at the start of a process whose broker was memory."""
    pending = session.scalars(select(WebhookDelivery).where(WebhookDelivery.status == DeliveryStatus.PENDING)).all()
    waiting = session.scalars(select(OutboxMessage.args).where(OutboxMessage.task == outbox.DELIVER_WEBHOOK))
    known = {args[0] for args in waiting}
    lost = [delivery for delivery in pending if delivery.id not in known]
    for delivery in lost:
        _release(delivery)
        delivery.next_attempt_at = delivery.dispatched_at = from_now()
        _enqueue(session, delivery.id)
    return len(lost)


def get(session: Session, delivery_id: str) -> WebhookDelivery:
    """One delivery with its event and attempts.

    Raises:
        DeliveryNotFound: there is none with this id.
    """
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    delivery = session.scalar(query.options(*_load()).execution_options(populate_existing=True))
    if delivery is None:
        raise DeliveryNotFound(f"There is no delivery {delivery_id[:64]!r}.")
    return delivery


def _load() -> tuple[Any, ...]:
    return joinedload(WebhookDelivery.event), selectinload(WebhookDelivery.tries)


def list_page(
    session: Session,
    *,
    limit: int,
    cursor: str | None = None,
    status: DeliveryStatus | None = None,
    endpoint_id: str | None = None,
    job_id: Any = None,
) -> tuple[list[WebhookDelivery], str | None]:
    """A page of deliveries, newest first, and the cursor of the next page.

    Raises:
        InvalidCursor: it is not the id of a delivery.
    """
    limit = min(limit, MAX_PAGE)
    query = select(WebhookDelivery).options(*_load()).order_by(WebhookDelivery.id.desc()).limit(limit + 1)
    if status:
        query = query.where(WebhookDelivery.status == status)
    if endpoint_id:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if job_id:
        query = query.where(WebhookDelivery.event_id.in_(select(Event.id).where(Event.job_id == job_id)))
    if cursor:
        if not cursor.startswith("dlv_"):
            raise InvalidCursor
        query = query.where(WebhookDelivery.id < cursor)
    found = list(session.scalars(query))
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def replay(session: Session, delivery_id: str) -> WebhookDelivery:
    """Send an event again, or now if it is still waiting: the same `webhook-id`, a new schedule.

    Raises:
        DeliveryNotFound: there is none with this id.
        EndpointDisabled: nothing is sent there.
    """
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if delivery is None:
        raise DeliveryNotFound(f"There is no delivery {delivery_id[:64]!r}.")
    if delivery.endpoint_id:
        endpoints.enabled(session, delivery.endpoint_id)
    _replay(session, delivery)
    return get(session, delivery_id)


def _replay(session: Session, delivery: WebhookDelivery) -> None:
    _release(delivery)
    delivery.status, delivery.delivered_at = DeliveryStatus.PENDING, None
    delivery.attempts_before, delivery.postponements = delivery.attempts, 0
    _again(session, delivery, 0)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is to be sent again."""

    endpoint_id: str
    since: datetime
    until: datetime
    #: leave out what the endpoint has taken
    missed_only: bool

    def to_args(self) -> list[Any]:
        return [self.endpoint_id, self.since.isoformat(), self.until.isoformat(), self.missed_only]

    @classmethod
    def from_args(cls, endpoint_id: str, since: str, until: str, missed_only: bool) -> "Replay":
        return cls(
            endpoint_id=endpoint_id,
            since=datetime.fromisoformat(since),
            until=datetime.fromisoformat(until),
            missed_only=missed_only,
        )


def start_replay(session: Session, wanted: Replay) -> int:
    """Have all events of a time sent again, in the background; how many those are.

    Raises:
        EndpointNotFound: there is none with this id.
        EndpointDisabled: nothing is sent there.
    """
    endpoint = endpoints.enabled(session, wanted.endpoint_id)
    _continue_replay(session, wanted, "")
    return session.scalars(select(func.count()).select_from(_replayed(endpoint, wanted).subquery())).one()


def _continue_replay(session: Session, wanted: Replay, after: str) -> None:
    outbox.enqueue(session, outbox.REPLAY_WEBHOOKS, [after, *wanted.to_args()], queue=Queue.WEBHOOK.value)


def replay_batch(session: Session, wanted: Replay, after: str) -> None:
    """Send some of the events again and ask for the next ones; a batch that runs twice sends nothing twice at once."""
    endpoint = session.get(WebhookEndpoint, wanted.endpoint_id)
    if endpoint is None or not endpoint.enabled:
        return
    query = _replayed(endpoint, wanted).where(Event.id > after).order_by(Event.id).limit(BATCH)
    found = session.scalars(query).all()
    for event in found:
        _replay_event(session, event, endpoint)
    if len(found) == BATCH:
        _continue_replay(session, wanted, found[-1].id)


def _replayed(endpoint: WebhookEndpoint, wanted: Replay) -> Any:
    query = select(Event).where(Event.created_at >= wanted.since, Event.created_at < wanted.until)
    query = query.where(Event.type != EventType.TEST)
    if endpoint.events:
        query = query.where(Event.type.in_(endpoint.events))
    if wanted.missed_only:
        taken = select(WebhookDelivery.event_id).where(
            WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.status == DeliveryStatus.DELIVERED
        )
        query = query.where(Event.id.not_in(taken))
    return query


def _replay_event(session: Session, event: Event, endpoint: WebhookEndpoint) -> None:
    delivery = session.scalar(
        select(WebhookDelivery)
        .where(WebhookDelivery.event_id == event.id, WebhookDelivery.endpoint_id == endpoint.id)
        .with_for_update()
    )
    if delivery is None:
        create(session, event, Target(endpoint_id=endpoint.id, url=endpoint.url))
    elif delivery.status != DeliveryStatus.PENDING:
        _replay(session, delivery)
