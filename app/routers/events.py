"""The log of events, for receivers that no webhook can reach."""

import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from app.database import TenantDatabase
from app.models import EventType, Scope
from app.routers.access import Own, needs
from app.routers.dependencies import CurrentResources, Prefer, WholeNumber, left, preferred_wait, raise_if_left
from app.routers.openapi import problems
from app.schemas import EventPage, EventView
from app.services.webhooks import events
from app.wiring import Resources

router = APIRouter(tags=["webhooks"])
READ = [needs(Scope.JOBS_READ)]


@router.head("/events", dependencies=READ, include_in_schema=False)
@router.get("/events", dependencies=READ, summary="The log of events, oldest first", responses=problems(400, 422))
async def list_events(
    request: Request,
    resources: CurrentResources,
    own: Own,
    response: Response,
    after: Annotated[
        str,
        Query(
            description="`next_after` of the previous answer, or the id of an event; 0: from the beginning.",
            json_schema_extra={"pattern": events.CURSOR},
        ),
    ] = events.BEGINNING,
    limit: Annotated[int, Field(ge=1, le=events.MAX_PAGE), WholeNumber, Query()] = 50,
    type: Annotated[EventType | None, Query(description="Only events of this type.")] = None,  # noqa: A002
    prefer: Prefer = None,
) -> EventPage:
    """The same events that webhooks deliver, in an order that never changes: nothing is ever added before `next_after`.

    A page may be short, or empty, even if there are more events."""
    seconds = preferred_wait(prefer, resources.settings.prefer_wait_seconds)
    place = await _place(resources, own, after)
    if seconds is None:
        found, _, more = await _page(resources, own, place, limit, type)
        return _view(found, after, more=more)
    await raise_if_left(request)
    found, place, more = await _page(resources, own, place, limit, type)
    deadline, gone = time.monotonic() + seconds, partial(left, request)
    while not found and (remaining := deadline - time.monotonic()) > 0:
        if not more and not await resources.waiters.event(place, type, remaining, gone, tenant=own.tenant):
            return _view(found, after, more=more)  # too many requests are waiting already
        await raise_if_left(request)
        found, place, more = await _page(resources, own, place, limit, type)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return _view(found, after, more=more)


def _view(found: list[dict[str, Any]], after: str, *, more: bool) -> EventPage:
    data = [EventView(**event) for event in found]
    return EventPage(data=data, next_after=data[-1].id if data else after, has_more=more)


async def _place(resources: Resources, own: TenantDatabase, after: str) -> int:
    while (place := await own.read(events.place, after)) is None:
        await resources.database.call(events.number)
    return place


async def _page(
    resources: Resources, own: TenantDatabase, after: int, limit: int, type_: EventType | None
) -> tuple[list[dict[str, Any]], int, bool]:
    """A page of events, its last place, and whether more follow. Before a short page, new events are numbered."""
    database = resources.database
    page = partial(events.page, links=resources.links, after=after, limit=limit, type_=type_)
    found, last, more = await own.read(page)
    if not more and await database.read(events.has_unnumbered):
        await database.call(events.number)
        found, last, more = await own.read(page)
        more = more or await database.read(events.has_unnumbered)
    return found, last, more
