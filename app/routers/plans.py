"""Plans over HTTP: what a request to /process would do."""

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from app.bodies import allow_body
from app.errors import TruncatedRequest
from app.models import Scope
from app.routers.access import CurrentPrincipal, needs
from app.routers.dependencies import BaseUrl, CurrentResources
from app.routers.openapi import PLAN_BODY, problems
from app.schemas import PlannedInput, PlannedResultView, PlannedStepView, PlanView
from app.services.intake.costs import Outcome
from app.services.intake.plans import Planned
from app.services.intake.submission import Request as SubmissionRequest
from app.services.intake.uploads import boundary_of, check_content_length, is_json

router = APIRouter(tags=["jobs"])


@router.post(
    "/plan",
    dependencies=[needs(Scope.JOBS_WRITE)],
    summary="What a request to /process would do and take, and all that is wrong with it",
    openapi_extra={"requestBody": PLAN_BODY},
    responses=problems(400, 404, 408, 409, 410, 413, 415),
)
async def plan_job(
    request: Request, resources: CurrentResources, base_url: BaseUrl, principal: CurrentPrincipal
) -> PlanView:
    """Nothing is stored, fetched or decoded. A request that /process would refuse is refused here in the same way, but
    `errors` has every mistake, not only the first."""
    asked = SubmissionRequest(idempotency_key=None, principal=principal, base_url=base_url)
    submissions = resources.submissions
    if not is_json(request.headers.get("content-type")):
        boundary = boundary_of(request.headers.get("content-type"))
        check_content_length(request.headers.get("content-length"), submissions.form_limits)
        allow_body(request.scope, submissions.form_limits.body_bytes)
        return _view(await resources.plans.of_form(request.stream(), boundary, asked))
    allow_body(request.scope, submissions.json_bytes)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise TruncatedRequest("The request body ended early.") from None
    return _view(await resources.plans.of_json(body, asked))


def _view(planned: Planned) -> PlanView:
    header, found = planned.header, planned.estimate
    sizes = [outcome.bytes for outcome in found.outcomes]
    return PlanView(
        input=PlannedInput(
            format=header.format if header else None,
            width=header.width if header else None,
            height=header.height if header else None,
            bytes=planned.bytes,
        ),
        template=planned.checked.chosen.template,
        operations=planned.checked.tree.operations,
        steps=[
            PlannedStepView(id=step.id, op=step.op, queue=task.queue, task=task.id)
            for task in planned.plan.tasks
            for step in task.steps
        ],
        results=[_result(outcome) for outcome in found.outcomes],
        cpu_seconds=found.cpu_seconds,
        memory_bytes=found.memory_bytes,
        bytes=None if None in sizes else sum(size for size in sizes if size is not None),
    )


def _result(outcome: Outcome) -> PlannedResultView:
    width, height = outcome.size or (None, None)
    return PlannedResultView(
        name=outcome.name,
        step=outcome.step,
        format=outcome.format,
        width=width,
        height=height,
        bytes=outcome.bytes,
    )
