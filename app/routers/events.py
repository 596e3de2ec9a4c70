"""The log of events, for receivers that no webhook can reach."""

import time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from app.errors import InvalidCursor
from app.models import EventType
from app.routers.dependencies import CurrentResources, Prefer, WholeNumber, left, preferred_wait, raise_if_left
from app.routers.openapi import problems
from app.schemas import EventPage, EventView
from app.services import events
from app.wiring import Resources

router = APIRouter(tags=["webhooks"])


@router.head("/events", include_in_schema=False)
@router.get("/events", summary="The log of events, oldest first", responses=problems(400, 422))
async def list_events(
    request: Request,
    resources: CurrentResources,
    response: Response,
    after: Annotated[
        str,
        Query(
            description="`next_after` of the answer before; 0: from the beginning.",
            json_schema_extra={"pattern": "^[0-9]{1,18}$"},
        ),
    ] = "0",
    limit: Annotated[int, Field(ge=1, le=events.MAX_PAGE), WholeNumber, Query()] = 50,
    type: Annotated[EventType | None, Query(description="Only events of this type.")] = None,  # noqa: A002
    prefer: Prefer = None,
) -> EventPage:
    """The same events as webhooks tell, in an order that never changes: nothing is ever added before `next_after`.

    A page may be short, or empty, although there are more."""
    if not after.isascii() or not after.isdecimal() or len(after) > 18:
        raise InvalidCursor("`after` is the `next_after` of an answer, or 0.")
    seconds = preferred_wait(prefer, resources.settings.prefer_wait_seconds)
    if seconds is None:
        return await _page(resources, int(after), limit, type)
    await raise_if_left(request)
    page = await _page(resources, int(after), limit, type)
    deadline, gone = time.monotonic() + seconds, partial(left, request)
    while not page.data and (remaining := deadline - time.monotonic()) > 0:
        if not page.has_more and not await resources.waiters.event(int(page.next_after), type, remaining, gone):
            return page  # too many wait already
        await raise_if_left(request)
        page = await _page(resources, int(page.next_after), limit, type)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    return page


async def _page(resources: Resources, after: int, limit: int, type_: EventType | None) -> EventPage:
    """A page that is not full may lack what nobody has read yet: some of that is numbered then, never all at once."""
    database = resources.database
    page = partial(events.page, links=resources.links, after=after, limit=limit, type_=type_)
    told, last, more = await database.read(page)
    if not more and await database.read(events.has_unnumbered):
        await database.call(events.number)
        told, last, more = await database.read(page)
        more = more or await database.read(events.has_unnumbered)
    return EventPage(data=[EventView(**event) for event in told], next_after=str(last), has_more=more)
