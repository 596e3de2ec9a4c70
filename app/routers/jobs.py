"""Jobs over HTTP."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.requests import ClientDisconnect

from app import metrics
from app.bodies import allow_body
from app.database import TenantDatabase
from app.errors import JobNotFinished, ResultNotFound, TruncatedRequest
from app.models import JOB_OPEN, Job, JobStatus, Scope
from app.problems import code_of
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import (
    BaseUrl,
    CurrentResources,
    JobId,
    Prefer,
    WholeNumber,
    left,
    link_next,
    preferred_wait,
    raise_if_left,
)
from app.routers.openapi import ARCHIVE_RESPONSES, JOB_RESPONSES, PROCESS_BODY, PROCESS_RESPONSES, problems
from app.schemas import JobPage, JobView, Moment
from app.services import jobs
from app.services.access.audit import Audited
from app.services.access.principal import Principal
from app.services.idempotency import key_of
from app.services.intake.keeping import MAX_EXTERNAL_ID, check_text, read_tag
from app.services.intake.submission import Accepted, Submissions
from app.services.intake.submission import Request as SubmissionRequest
from app.services.intake.uploads import boundary_of, check_content_length, is_json
from app.services.job_views import job_view
from app.services.jobs import JobFilters
from app.services.storage.archive import stream_archive
from app.services.storage.filenames import content_disposition
from app.services.storage.keys import job_prefix
from app.wiring import Resources

router = APIRouter(tags=["jobs"])
READ, WRITE = [needs(Scope.JOBS_READ)], [needs(Scope.JOBS_WRITE)]

#: the keys that `services/idempotency.py` accepts, as far as a pattern can describe them
IDEMPOTENCY_KEY = r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ !#-~]{0,253}[!#-~])?)$'
RETRY_AFTER = "1"  # seconds until a client should poll again


@router.post(
    "/process",
    dependencies=WRITE,
    summary="Upload an image and run a tree of operations on it",
    status_code=202,
    response_model=JobView,
    openapi_extra={"requestBody": PROCESS_BODY},
    responses=PROCESS_RESPONSES,
)
async def submit_job(
    request: Request,
    resources: CurrentResources,
    base_url: BaseUrl,
    principal: CurrentPrincipal,
    own: Own,
    idempotency_key: Annotated[  # only for the OpenAPI document; `_accept` reads it and detects repeated headers
        str | None,
        Header(
            description="Repeat a request safely: the same key gives the same job for 24 hours. Quoted or bare.",
            json_schema_extra={"pattern": IDEMPOTENCY_KEY},
            openapi_examples={"quoted": {"value": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}},
        ),
    ] = None,
    prefer: Prefer = None,
) -> Response:
    """The answer is 202 with the job in state `pending`; `Location` is its address.

    With `Prefer: wait=N` it is 200 with the ended job, if that takes no longer than N seconds.
    """
    try:
        accepted = await _accept(request, resources, base_url, principal)
    except Exception as error:
        metrics.UPLOADS.labels(code_of(error)).inc()
        raise
    metrics.UPLOADS.labels(metrics.REPLAYED if accepted.replayed else metrics.ACCEPTED).inc()
    headers = {"Location": f"/jobs/{accepted.job_id}", "Vary": "Prefer"}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    seconds = preferred_wait(prefer, resources.settings.prefer_wait_seconds)
    if seconds is None:
        return JSONResponse(accepted.body, 202, {**headers, "Retry-After": RETRY_AFTER})
    is_new = not accepted.replayed
    if await resources.waiters.job(accepted.job_id, seconds, partial(left, request), is_new=is_new):
        headers["Preference-Applied"] = f"wait={seconds}"
    return await _answer(resources, own, accepted.job_id, headers)


async def _accept(request: Request, resources: Resources, base_url: str, principal: Principal) -> Accepted:
    key = key_of(request.headers.getlist("idempotency-key"))
    take = _take_json if is_json(request.headers.get("content-type")) else _take_form
    body = take(request, resources.submissions)
    await resources.backpressure.check()
    if key is None:  # a request with a key may be a repeat, which is answered even above the tenant's limits
        resources.submissions.check_tenant(principal.tenant)
    return await body(SubmissionRequest(idempotency_key=key, principal=principal, base_url=base_url))


Take = Callable[[SubmissionRequest], Awaitable[Accepted]]


def _take_form(request: Request, submissions: Submissions) -> Take:
    """Check the headers of a request with a form; the body is read once the request is admitted."""
    boundary = boundary_of(request.headers.get("content-type"))
    limits = submissions.form_limits
    check_content_length(request.headers.get("content-length"), limits)
    allow_body(request.scope, limits.body_bytes)
    return partial(submissions.submit, request.stream(), boundary)


def _take_json(request: Request, submissions: Submissions) -> Take:
    allow_body(request.scope, submissions.json_bytes)

    async def take(asked: SubmissionRequest) -> Accepted:
        try:
            body = await request.body()
        except ClientDisconnect:
            raise TruncatedRequest("The request body ended early.") from None
        return await submissions.submit_json(body, asked)

    return take


async def _answer(resources: Resources, own: TenantDatabase, job_id: UUID, headers: dict[str, str]) -> JSONResponse:
    view = await _view(resources, own, job_id)
    if view.status in JOB_OPEN:
        return JSONResponse(view.model_dump(mode="json"), 202, {**headers, "Retry-After": RETRY_AFTER})
    return JSONResponse(view.model_dump(mode="json"), 200, headers)


async def _view(resources: Resources, own: TenantDatabase, job_id: UUID) -> JobView:
    return job_view(await own.read(jobs.get, job_id), resources.links)


@router.head("/jobs/{job_id}", dependencies=READ, include_in_schema=False)
@router.get("/jobs/{job_id}", dependencies=READ, summary="State, steps and results of a job", responses=JOB_RESPONSES)
async def get_job(
    request: Request, job_id: JobId, resources: CurrentResources, own: Own, response: Response, prefer: Prefer = None
) -> JobView:
    """Download URLs are fresh in every answer."""
    response.headers["Vary"] = "Prefer"
    seconds = preferred_wait(prefer, resources.settings.prefer_wait_seconds)
    if seconds is not None:
        await raise_if_left(request)
    gone = partial(left, request)
    if seconds is not None and await resources.waiters.job(job_id, seconds, gone, tenant=own.tenant):
        response.headers["Preference-Applied"] = f"wait={seconds}"
    view = await _view(resources, own, job_id)
    if view.status in JOB_OPEN:
        response.headers["Retry-After"] = RETRY_AFTER
    return view


@router.head("/jobs", dependencies=READ, include_in_schema=False)
@router.get("/jobs", dependencies=READ, summary="Jobs, newest first", responses=problems(400, 422))
async def list_jobs(
    request: Request,
    resources: CurrentResources,
    own: Own,
    response: Response,
    limit: Annotated[int, Field(ge=1, le=jobs.MAX_PAGE), WholeNumber, Query()] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the previous page.", max_length=200)] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    tag: Annotated[str | None, Query(description="Only jobs with this tag, as `name:value`.", max_length=320)] = None,
    external_id: Annotated[
        str | None, Query(description="Only the job with this external id.", max_length=MAX_EXTERNAL_ID)
    ] = None,
    filename: Annotated[str | None, Query(description="Only uploads with exactly this name.", max_length=255)] = None,
    created_after: Annotated[
        Moment | None, Query(description="Only jobs created at or after this time, with its zone.")
    ] = None,
    created_before: Annotated[
        Moment | None, Query(description="Only jobs created before this time, with its zone.")
    ] = None,
) -> JobPage:
    """A job must match all filters."""
    filters = JobFilters(
        status=status,
        tag=read_tag(tag),
        external_id=check_text("external_id", external_id),
        filename=check_text("filename", filename),
        created_after=created_after,
        created_before=created_before,
    )
    found, next_cursor = await own.read(jobs.list_page, limit=limit, cursor=cursor, filters=filters)
    link_next(request, response, next_cursor)
    views = [job_view(job, resources.links) for job in found]
    return JobPage(data=views, next_cursor=next_cursor, has_more=next_cursor is not None)


@router.post("/jobs/{job_id}/cancel", dependencies=WRITE, summary="End a job now", responses=problems(404, 409, 410))
async def cancel_job(job_id: JobId, resources: CurrentResources, own: Own) -> JobView:
    """Waiting steps never start, and running steps no longer count. Results so far are kept. Cancelling twice is
    harmless."""
    return job_view(await own.call(jobs.cancel, job_id), resources.links)


@router.post(
    "/jobs/{job_id}/retry",
    dependencies=WRITE,
    status_code=202,
    summary="Repeat what failed, was skipped or cancelled",
    responses=problems(404, 409, 410),
)
async def retry_job(job_id: JobId, resources: CurrentResources, own: Own, response: Response) -> JobView:
    """Steps that succeeded are not repeated."""
    kept = resources.settings.results_kept_seconds
    refetch = await _has_lost_input(resources, await own.read(jobs.get, job_id))
    job = await own.call(jobs.retry, job_id, kept_seconds=kept, limits=resources.tenant_limits, refetch=refetch)
    response.headers.update({"Location": f"/jobs/{job_id}", "Retry-After": RETRY_AFTER})
    return job_view(job, resources.links)


async def _has_lost_input(resources: Resources, job: Job) -> bool:
    """Whether the job's input came from a source and is no longer stored, so that it has to be fetched again."""
    if job.input_source is None or job.input_sha256 is None:
        return False
    return await resources.storage.size(job.input_key) is None


@router.delete(
    "/jobs/{job_id}",
    dependencies=WRITE,
    status_code=204,
    summary="Erase a job and all its objects",
    responses=problems(404, 410),
)
async def delete_job(job_id: JobId, resources: CurrentResources, own: Own, principal: CurrentPrincipal) -> None:
    """When the answer comes, upload, intermediate files and results are gone. A running job is cancelled first."""
    await own.call(jobs.stop, job_id)
    await resources.storage.delete_prefix(job_prefix(job_id))
    deleted = Audited(principal=principal, action="job.deleted", subject=lambda gone: str(job_id) if gone else None)
    await own.call(deleted, jobs.remove, job_id)
    # a worker may have stored an object between the two calls; from now on workers remove such objects themselves
    await resources.storage.delete_prefix(job_prefix(job_id))


@router.get(
    "/jobs/{job_id}/archive",
    dependencies=READ,
    summary="All results as one ZIP",
    response_class=StreamingResponse,
    responses=ARCHIVE_RESPONSES,
)
async def get_archive(job_id: JobId, resources: CurrentResources, own: Own) -> StreamingResponse:
    job = await own.read(jobs.get, job_id)
    if job.status in JOB_OPEN:
        raise JobNotFinished(
            f"The job has not ended yet: {job.status}.", value=job.status, retry_after=int(RETRY_AFTER)
        )
    if not job.results:
        raise ResultNotFound("The job has no results.")
    headers = {"Content-Disposition": content_disposition(f"pixtools-{job_id}.zip")}
    return StreamingResponse(stream_archive(job, resources.storage), media_type="application/zip", headers=headers)
