"""Dependencies of routes. All are async, because FastAPI would run sync ones in threads."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, NoReturn
from uuid import UUID

from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from pydantic import BeforeValidator

from app import tracing
from app.errors import ClientLeft, JobNotFound, UnknownParameter
from app.services.intake.validation import escaped
from app.tenancy import TENANT_NAME
from app.wiring import Resources

#: the tenant that a request is about; None: its own
OtherTenant = Annotated[
    str | None,
    Query(
        description="A tenant other than your own; needs the scope `admin`.",
        alias="tenant",
        json_schema_extra={"pattern": TENANT_NAME},
    ),
]

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
        wanted = None
    if wanted is None or str(wanted) != job_id.lower():  # UUIDs have several spellings, but a job has one address
        raise JobNotFound(f"There is no job {job_id[:64]!r}.")
    tracing.bind(job_id=str(wanted))
    return wanted


JobId = Annotated[UUID, Depends(_job_id)]


async def only_known_parameters(request: Request) -> None:
    """Refuse unknown query parameters: if a misspelt filter were ignored, the response would contain everything.

    Raises:
        UnknownParameter: a parameter is unknown, or given twice.
    """
    given = request.query_params.multi_items()
    if not given:
        return
    known = list(_query_names(request.scope["route"].dependant))
    for name, _ in given:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "this path takes none"
            _refuse_parameter(name, f"There is no query parameter {name[:64]!r}; {there}.")
    twice = next((name for name, number in Counter(name for name, _ in given).items() if number > 1), None)
    if twice:
        _refuse_parameter(twice, f"The query parameter {twice!r} is given twice.")


def _query_names(dependant: Dependant) -> Iterator[str]:
    """The names of the query parameters of a route and its dependencies."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


def _refuse_parameter(name: str, detail: str) -> NoReturn:
    raise UnknownParameter(detail, pointer=f"#/query/{escaped(name)}", value=name[:64])


def _whole_number(value: object) -> object:
    """Refuse unusual spellings of numbers that pydantic would accept: `5.0`, `1_0`, ` 5`."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,1000}", value):
        raise ValueError("must be a whole number")
    return value


WholeNumber = BeforeValidator(_whole_number)


async def _base_url(request: Request, resources: CurrentResources) -> str:
    return resources.settings.public_url or str(request.base_url).rstrip("/")


BaseUrl = Annotated[str, Depends(_base_url)]


async def left(request: Request) -> None:
    """Return when the client has disconnected. The body of the request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def raise_if_left(request: Request) -> None:
    """Raise if the client has disconnected.

    Raises:
        ClientLeft: the client has disconnected.
    """
    for _ in range(2):  # the event loop needs turns to notice the end of the connection
        await asyncio.sleep(0)
    if await request.is_disconnected():
        raise ClientLeft


Prefer = Annotated[
    str | None,
    Header(
        description="With `wait=N` the response waits until there is something new, at most N seconds.",
        openapi_examples={"wait": {"value": "wait=20"}},
    ),
]


def preferred_wait(prefer: str | None, longest: int) -> int | None:
    """The seconds N of `Prefer: wait=N`, at most `longest`; None without such a preference."""
    wait = WAIT.search(prefer or "")
    return min(int(wait[1]), longest) if wait else None


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Add the address of the next page of a listing as a `Link` header."""
    if cursor:
        following = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
