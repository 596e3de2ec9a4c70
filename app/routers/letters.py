"""Routes for operators: dead letters, the timeline of a job, and the list of tenants."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from app.models import Scope
from app.routers.access import CurrentPrincipal, Own, needs, rows_of
from app.routers.dependencies import CurrentResources, JobId, OtherTenant, WholeNumber, link_next
from app.routers.openapi import problems
from app.schemas import LetterPage, LetterView, RedriveView, TenantList, TenantView, TimelineView
from app.services import dead_letters
from app.services.access import keys, tenants
from app.services.access.audit import Audited
from app.services.monitoring import timeline

router = APIRouter()
READ, WRITE, ADMIN = [needs(Scope.JOBS_READ)], [needs(Scope.JOBS_WRITE)], [needs(Scope.ADMIN)]

LetterId = Annotated[str, Path(description="Id of the dead letter.", max_length=64)]


@router.head("/jobs/{job_id}/timeline", dependencies=READ, include_in_schema=False)
@router.get(
    "/jobs/{job_id}/timeline",
    dependencies=READ,
    tags=["jobs"],
    summary="Timeline of a job, in words",
    responses=problems(404),
)
async def explain_job(job_id: JobId, own: Own) -> TimelineView:
    """Attempts, results, events, webhooks and what the job waits for, one line each. The text is for people and may
    change."""
    return TimelineView(lines=await own.read(timeline.describe, job_id))


@router.head("/dead-letters", dependencies=READ, include_in_schema=False)
@router.get(
    "/dead-letters",
    dependencies=READ,
    tags=["jobs"],
    summary="Work that was given up, newest first",
    responses=problems(400, 422),
)
async def list_letters(
    request: Request,
    resources: CurrentResources,
    principal: CurrentPrincipal,
    response: Response,
    limit: Annotated[int, Field(ge=1, le=dead_letters.MAX_PAGE), WholeNumber, Query()] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=64)] = None,
    tenant: OtherTenant = None,
) -> LetterPage:
    """Dead letters that have not been redriven: work that crashed every process, or unreadable messages."""
    rows = rows_of(principal, resources, tenant)
    found, next_cursor = await rows.read(dead_letters.page, limit=limit, cursor=cursor)
    link_next(request, response, next_cursor)
    data = [LetterView.model_validate(letter) for letter in found]
    return LetterPage(data=data, next_cursor=next_cursor, has_more=next_cursor is not None)


@router.post(
    "/dead-letters/{letter_id}/redrive",
    dependencies=WRITE,
    tags=["jobs"],
    summary="Run work again that was given up",
    responses=problems(404, 409, 422),
)
async def redrive_letter(
    letter_id: LetterId, resources: CurrentResources, principal: CurrentPrincipal, tenant: OtherTenant = None
) -> RedriveView:
    """Use it once the cause is repaired. After that the same upload is accepted again."""
    kept = resources.settings.results_kept_seconds
    redriven = Audited(principal=principal, action="dead_letter.redriven", subject=lambda _: letter_id)
    done = await rows_of(principal, resources, tenant).call(
        redriven, dead_letters.redrive_by_id, letter_id, kept_seconds=kept
    )
    return RedriveView(id=letter_id, done=done)


@router.head("/tenants", dependencies=ADMIN, include_in_schema=False)
@router.get("/tenants", dependencies=ADMIN, tags=["keys"], summary="All tenants")
async def list_tenants(resources: CurrentResources) -> TenantList:
    """For the operator. `pixtools server tenants` makes tenants, sets their limits and erases them."""
    every = await resources.database.read(tenants.every)
    valid = await resources.database.read(keys.count_valid)
    return TenantList(
        data=[
            TenantView(name=each.name, created_at=each.created_at, deleted_at=each.deleted_at, keys=valid[each.name])
            for each in every
        ]
    )
