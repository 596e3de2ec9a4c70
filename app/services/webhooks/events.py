"""The log of events: the ends of jobs, in the same order for all readers, and as bodies of webhooks.

If transactions took the numbers of their events, a number could become visible after a higher one, and readers would
miss the event, since transactions do not commit in that order. So events are written without a number. A process that
reads the log first numbers all events that have been committed, one process at a time.
"""

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session, joinedload

from app.database import from_now, insert_rows
from app.errors import InvalidCursor
from app.models import (
    UNNUMBERED,
    Counter,
    DeliveryStatus,
    Event,
    EventType,
    Job,
    JobStatus,
    Result,
    WebhookDelivery,
)
from app.moments import in_utc
from app.services.ids import new_id as id_with
from app.services.ids import pattern_of
from app.services.job_views import job_view
from app.services.storage.links import DownloadLinks

CLOCKS_DIFFER = 3600.0  # greatest difference in seconds between the clocks of a process (ids) and the database (rows)
MAX_BODY = 20_000  # bytes; the most that Standard Webhooks recommends
BATCH = 500  # events in one transaction
MAX_PAGE = 100  # events
COUNTER = "events"
PREFIX = "msg"
BEGINNING = "0"  # the cursor of the beginning of the log
CURSOR = f"{pattern_of(PREFIX)}|^{BEGINNING}$"


def record(session: Session, job: Job) -> Event:
    """Write the event of a job that this transaction ends; steps and results must be loaded."""
    event = Event(
        id=new_id(),
        tenant=job.tenant,
        type=EventType(f"job.{JobStatus(job.status).value}"),
        job_id=job.id,
        run=job.run,
        created_at=job.finished_at or job.created_at,
        data=_snapshot(job),
    )
    insert_rows(session, [event])
    return event


def new_id() -> str:
    """A new `webhook-id` for an event; ids sort by time."""
    return id_with(PREFIX)


def id_before(at: datetime) -> str:
    """An id below those of all events since a time, with an hour of tolerance for differing clocks."""
    return _id_of(at.timestamp() - CLOCKS_DIFFER)


def id_after(at: datetime) -> str:
    """An id above those of all events before a time."""
    return _id_of(at.timestamp() + CLOCKS_DIFFER)


def _id_of(seconds: float) -> str:
    return f"{PREFIX}_{max(0, round(seconds * 1000)):012x}"


class _Unlinked:
    """Omits download URLs, which would expire before the last attempt at a webhook; they are made when it is sent."""

    def url(self, job: Job, result: Result) -> tuple[str, datetime]:
        return "", job.created_at


def _snapshot(job: Job) -> dict[str, Any]:
    data = job_view(job, _Unlinked()).model_dump(mode="json")
    for result in data["results"]:
        del result["url"], result["expires_at"]
    return data


def payloads(session: Session, events: Sequence[Event], links: DownloadLinks) -> list[dict[str, Any]]:
    """Events in the form for receivers and readers; results that have been removed have no URL."""
    ids = {event.job_id for event in events if event.data.get("results")}
    query = select(Job).where(Job.id.in_(ids)).options(joinedload(Job.results))
    found = session.scalars(query).unique() if ids else ()
    jobs = {job.id: job for job in found}
    return [_payload(event, jobs.get(event.job_id) if event.job_id else None, links) for event in events]


def _payload(event: Event, job: Job | None, links: DownloadLinks) -> dict[str, Any]:
    data = copy.deepcopy(event.data)
    _link(job, data.get("results", []), links)
    return {"type": event.type, "timestamp": in_utc(event.created_at), "data": data}


def _link(job: Job | None, results: list[dict[str, Any]], links: DownloadLinks) -> None:
    stored = {result.name: result for result in job.results} if job else {}
    for result in results:
        url, expires_at = links.url(job, stored[result["name"]]) if job and result["name"] in stored else (None, None)
        result["url"], result["expires_at"] = url, in_utc(expires_at) if expires_at else None


def body(session: Session, event: Event, links: DownloadLinks) -> bytes:
    """The body of a webhook: an event in at most `MAX_BODY` bytes.

    Parts that do not fit are left out, the least important first, and named in `data.left_out`; `GET /jobs/{id}` has
    everything.
    """
    (payload,) = payloads(session, [event], links)
    encoded = _encode(payload)
    for name, trim in TRIMS:
        if len(encoded) <= MAX_BODY:
            break
        trim(payload["data"])
        payload["data"].setdefault("left_out", []).append(name)
        encoded = _encode(payload)
    return encoded


def _encode(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _without(*path: str) -> tuple[str, Callable[[dict[str, Any]], None]]:
    def trim(data: dict[str, Any]) -> None:
        for parent in _parents(data, path[:-1]):
            parent.pop(path[-1], None)

    return ".".join(path), trim


def _parents(data: dict[str, Any], path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if not path:
        yield data
    else:
        yield from data.get(path[0]) or []


TRIMS = (
    _without("operations"),
    _without("steps", "report"),
    _without("steps"),
    _without("results", "url"),
    _without("results"),
    _without("error"),
    _without("input"),
)


def number(session: Session) -> int:
    """Assign places in the log to committed events, at most `BATCH`; returns their number.

    An event that is deleted at the same time leaves a gap.
    """
    counter = session.scalars(select(Counter).where(Counter.name == COUNTER).with_for_update()).one()
    next_ones = _unnumbered().order_by(Event.id).limit(BATCH).subquery()
    places = select(next_ones.c.id, func.row_number().over(order_by=next_ones.c.id).label("place")).subquery()
    numbered = (
        update(Event)
        .where(Event.id == places.c.id)
        .values(position=counter.value + places.c.place)
        .returning(Event.position)
        .execution_options(synchronize_session=False)
    )
    given = [position for position in session.scalars(numbered) if position]
    counter.value = max(given, default=counter.value)
    return len(given)


def has_unnumbered(session: Session) -> bool:
    """Whether there are events without a number. This only reads, so that idle readers never wait for each other."""
    return session.scalar(_unnumbered().limit(1)) is not None


def _unnumbered() -> Any:
    return select(Event.id).where(UNNUMBERED)


def check(cursor: str) -> None:
    """Raise unless a cursor has the right form.

    Raises:
        InvalidCursor: the cursor cannot be the id of an event.
    """
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidCursor(f"`after` is the `next_after` of an answer, the id of an event, or {BEGINNING}.")


def place(session: Session, cursor: str) -> int | None:
    """The place in the log of the last event that a reader has seen; None: it has no place yet, so call `number` first.

    If the event was deleted, the place is an hour before its time: the reader may see some events again, but misses
    none. The numbers themselves are never shown, since their gaps would reveal the activity of other tenants.

    Raises:
        InvalidCursor: the cursor cannot be the id of an event.
    """
    check(cursor)
    if cursor == BEGINNING:
        return 0
    event = session.get(Event, cursor)
    if event is not None and event.type != EventType.TEST:
        return event.position
    seconds = int(cursor.removeprefix(f"{PREFIX}_")[:12], 16) / 1000
    before = select(Event.position).where(Event.id < _id_of(seconds - CLOCKS_DIFFER), Event.position.is_not(None))
    return session.scalar(before.order_by(Event.id.desc()).limit(1)) or 0


def page(
    session: Session,
    links: DownloadLinks,
    *,
    after: int,
    limit: int,
    type_: str | None = None,
    job_id: UUID | None = None,
) -> tuple[list[dict[str, Any]], int, bool]:
    """Events after a place in the log, the place from which to continue, and whether there are more.

    The place is the end of the log if all of it was read, even if the last events are of other types.
    """
    last_of_all = end(session)  # has to be read before the events
    query = select(Event).where(Event.position > after)
    query = query.order_by(Event.position).limit(limit + 1)
    if type_:
        query = query.where(Event.type == type_)
    if job_id:
        query = query.where(Event.job_id == job_id)
    found = session.scalars(query).all()
    shown, more = found[:limit], len(found) > limit
    views = [{"id": event.id, **payload} for event, payload in zip(shown, payloads(session, shown, links), strict=True)]
    last = max((event.position or 0 for event in shown), default=after)
    return views, last if more else max(after, last_of_all, last), more


class Entry(NamedTuple):
    """The place of an event in the log, and the properties that determine its listeners."""

    position: int
    id: str
    tenant: str
    type: str
    job_id: UUID | None


def behind(session: Session, after: int) -> list[Entry]:
    """The next events after a place in the log, of all tenants, without their data."""
    query = select(Event.position, Event.id, Event.tenant, Event.type, Event.job_id).where(Event.position > after)
    found: Iterable[Any] = session.execute(query.order_by(Event.position).limit(BATCH))
    return [Entry(*row) for row in found]


def views(session: Session, ids: Sequence[str], links: DownloadLinks) -> dict[str, dict[str, Any]]:
    """Events in the form for readers, by id, without deleted ones."""
    found = session.scalars(select(Event).where(Event.id.in_(ids))).all()
    said = payloads(session, found, links)
    return {event.id: {"id": event.id, **payload} for event, payload in zip(found, said, strict=True)}


def end(session: Session) -> int:
    """The end of the log: all events up to this place are visible to later readers, and new events follow it."""
    return session.scalars(select(Counter.value).where(Counter.name == COUNTER)).one()


def latest(session: Session, place: int) -> str:
    """The cursor of the last event up to a place in the log."""
    query = select(Event.id).where(Event.position <= place).order_by(Event.position.desc()).limit(1)
    return session.scalar(query) or BEGINNING


def forget(session: Session, job_id: UUID) -> None:
    """Erase the data of a deleted job from its events; only the end itself is kept, for deliveries."""
    for event in session.scalars(select(Event).where(Event.job_id == job_id).with_for_update()):
        event.data = {"id": str(job_id), "status": event.data["status"], "deleted": True}


class Expiry:
    """Removes events that are too old for the log, with their deliveries, a batch per call.

    Events that are still to be delivered are kept, as are those that were given up recently and can be replayed. Each
    batch continues after the previous one, so that no event is examined twice.
    """

    def __init__(self, kept_seconds: float) -> None:
        self._kept_seconds = kept_seconds
        self._place = ""

    def __call__(self, session: Session) -> int:
        """Examine the next events, and remove old ones; returns the number of examined events."""
        before = from_now(-self._kept_seconds)
        last = id_after(datetime.now(UTC) - timedelta(seconds=self._kept_seconds))
        old = select(Event.id).where(Event.id > self._place, Event.id < last, Event.created_at < before)
        ids = session.scalars(old.order_by(Event.id).limit(BATCH).with_for_update(skip_locked=True)).all()
        if ids:
            self._place = ids[-1]
            session.execute(delete(Event).where(Event.id.in_(ids), ~_needed(before).exists()))
        return len(ids)


def _needed(before: Any) -> Any:
    given_up = and_(WebhookDelivery.status == DeliveryStatus.EXHAUSTED, WebhookDelivery.next_attempt_at > before)
    return select(WebhookDelivery.id).where(
        WebhookDelivery.event_id == Event.id, or_(WebhookDelivery.status == DeliveryStatus.PENDING, given_up)
    )
