"""The usage of tenants, and the audit log."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.database import TenantDatabase
from app.errors import InvalidParameter
from app.models import AuditEntry, Scope
from app.routers.access import CurrentPrincipal, needs, rows_of
from app.routers.dependencies import CurrentResources, OtherTenant, WholeNumber, link_next
from app.routers.openapi import AUDIT_RESPONSES, problems
from app.schemas import Day, Moment, UsagePage, UsageView
from app.services.access import audit, usage

router = APIRouter(tags=["accounts"])

READ = [needs(Scope.KEYS_WRITE)]
USUAL_DAYS = 31  # period of usage if the request names no first day


@router.head("/usage", dependencies=READ, include_in_schema=False)
@router.get("/usage", dependencies=READ, summary="Usage by day, key and template", responses=problems(422))
async def get_usage(
    request: Request,
    resources: CurrentResources,
    principal: CurrentPrincipal,
    response: Response,
    since: Annotated[Day | None, Query(description="First day (UTC); default: 30 days before the last one.")] = None,
    until: Annotated[Day | None, Query(description="Last day (UTC); default: today.")] = None,
    limit: Annotated[int, Field(ge=1, le=usage.MAX_PAGE), WholeNumber, Query()] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the previous page.", max_length=512)] = None,
    tenant: OtherTenant = None,
) -> UsagePage:
    """A job is counted about a minute after its end (`PIXTOOLS_USAGE_SECONDS`), for the day of its end."""
    last = until or datetime.now(UTC).date()
    first = since or last - timedelta(days=USUAL_DAYS - 1)
    if first > last:
        raise InvalidParameter("`since` is later than `until`.", pointer="#/query/since", value=first.isoformat())
    rows = rows_of(principal, resources, tenant)
    found, next_cursor = await rows.read(
        usage.list_page, tenant=rows.tenant, since=first, until=last, limit=limit, cursor=cursor
    )
    link_next(request, response, next_cursor)
    data = [UsageView.model_validate(row) for row in found]
    return UsagePage(data=data, next_cursor=next_cursor, has_more=next_cursor is not None)


@router.head("/audit", dependencies=READ, include_in_schema=False)
@router.get(
    "/audit",
    dependencies=READ,
    summary="The audit log, as JSON Lines",
    response_class=StreamingResponse,
    responses=AUDIT_RESPONSES,
)
async def get_audit(
    resources: CurrentResources,
    principal: CurrentPrincipal,
    since: Annotated[Moment | None, Query(description="Only entries at or after this time, with its zone.")] = None,
    until: Annotated[Moment | None, Query(description="Only entries before this time, with its zone.")] = None,
    tenant: OtherTenant = None,
) -> StreamingResponse:
    """Changes of keys, tenants, endpoints, templates, assets and stores, deletions, and refused requests of known keys,
    once per key, code and minute."""
    rows = rows_of(principal, resources, tenant)
    first = await _page(rows, since, until, "")
    return StreamingResponse(_lines(rows, since, until, first), media_type="application/jsonl")


async def _page(rows: TenantDatabase, since: datetime | None, until: datetime | None, after: str) -> list[AuditEntry]:
    return await rows.read(audit.page, since=since, until=until, after=after, tenant=rows.tenant)


async def _lines(
    rows: TenantDatabase, since: datetime | None, until: datetime | None, entries: list[AuditEntry]
) -> AsyncIterator[bytes]:
    """Entries as lines of JSON. Each page has its own transaction, which a slow client does not keep open."""
    while entries:
        yield "".join(f"{json.dumps(audit.line(entry), ensure_ascii=False)}\n" for entry in entries).encode()
        entries = await _page(rows, since, until, entries[-1].id) if len(entries) == audit.PAGE else []
