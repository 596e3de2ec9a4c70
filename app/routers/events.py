"""The log of events, for receivers that no webhook can reach."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from app.errors import InvalidCursor
from app.models import EventType
from app.routers.dependencies import CurrentResources, preferred_wait
from app.routers.openapi import problems
from app.schemas import EventPage, EventView
from app.services import events
from app.wiring import Resources

router = APIRouter(tags=["webhooks"])

POLL_SECONDS = 0.25  # between two looks for a client that waits


@router.head("/events", include_in_schema=False)
@router.get("/events", summary="The log of events, oldest first", responses=problems(400, 422))
async def list_events(
    resources: CurrentResources,
    response: Response,
    after: Annotated[str, Query(description="`next_after` of the answer before; 0: from the beginning.")] = "0",
    limit: Annotated[int, Query(ge=1, description=f"More than {events.MAX_PAGE} is cut to that.")] = 50,
    type: Annotated[EventType | None, Query(description="Only events of this type.")] = None,  # noqa: A002
    prefer: Annotated[
        str | None, Header(description="`wait=N` holds the answer until there is an event, at most N seconds.")
    ] = None,
) -> EventPage:
    """The same events as webhooks tell, in an order that never changes: nothing is ever added before `next_after`."""
    if not after.isascii() or not after.isdecimal() or len(after) > 18:
        raise InvalidCursor("`after` is the `next_after` of an answer, or 0.")
    seconds = preferred_wait(prefer, resources.settings.prefer_wait_seconds)
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    deadline = time.monotonic() + (seconds or 0)
    while True:
        page = await _page(resources, int(after), limit, type)
        if page.data or time.monotonic() >= deadline:
            return page
        await asyncio.sleep(POLL_SECONDS)


async def _page(resources: Resources, after: int, limit: int, type_: EventType | None) -> EventPage:
    while await resources.database.read(events.has_unnumbered):
        await resources.database.call(events.number)
    told, last, more = await resources.database.read(
        events.page, resources.links, after=after, limit=limit, type_=type_
    )
    return EventPage(data=[EventView(**event) for event in told], next_after=str(last), has_more=more)
