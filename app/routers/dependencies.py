"""What routes ask for. All of it is async: FastAPI would run anything else in a thread."""

import asyncio
import hashlib
import re
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request, Response

from app import tracing
from app.errors import ClientLeft, JobNotFound
from app.wiring import Resources

WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


async def _resources(request: Request) -> Resources:
    return request.app.state.resources  # type: ignore[no-any-return]


CurrentResources = Annotated[Resources, Depends(_resources)]


async def _job_id(
    job_id: Annotated[str, Path(description="Id of the job.", json_schema_extra={"format": "uuid"})],
) -> UUID:
    try:
        wanted = UUID(job_id)
    except ValueError:
        raise JobNotFound(f"There is no job {job_id[:64]!r}.") from None
    tracing.bind(job_id=str(wanted))
    return wanted


JobId = Annotated[UUID, Depends(_job_id)]


async def _base_url(request: Request, resources: CurrentResources) -> str:
    return resources.settings.public_url or str(request.base_url).rstrip("/")


BaseUrl = Annotated[str, Depends(_base_url)]


async def _caller(request: Request) -> str:
    """Whose idempotency keys these are: one namespace per credential, without keeping any."""
    credential = request.headers.get("authorization")
    return hashlib.sha256(credential.encode()).hexdigest() if credential else "anonymous"


Caller = Annotated[str, Depends(_caller)]


async def left(request: Request) -> None:
    """Come to an end when the client has gone; for a request whose body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def raise_if_left(request: Request) -> None:
    """Do no more for a client that has gone.

    Raises:
        ClientLeft: nobody reads the answer.
    """
    for _ in range(2):  # turns of the event loop, in which it may read that the connection has ended
        await asyncio.sleep(0)
    if await request.is_disconnected():
        raise ClientLeft


def preferred_wait(prefer: str | None, longest: int) -> int | None:
    """The N of `Prefer: wait=N`, at most `longest`."""
    wait = WAIT.search(prefer or "")
    return min(int(wait[1]), longest) if wait else None


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """The address of the next page of a listing, as a header."""
    if cursor:
        following = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
