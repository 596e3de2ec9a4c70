"""Webhook endpoints, and the deliveries to them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from app.errors import InvalidWebhookUrl
from app.models import DeliveryStatus, Scope, WebhookDelivery
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import CurrentResources, WholeNumber, link_next
from app.routers.openapi import DELIVERY_RESPONSES, ENDPOINT_RESPONSES, problems
from app.schemas import (
    AttemptView,
    DeliveryPage,
    DeliverySummary,
    DeliveryView,
    EndpointChange,
    EndpointList,
    EndpointView,
    EndpointWithSecret,
    NewEndpoint,
    ReplayList,
    ReplayRequest,
    ReplayView,
    Rotation,
    Secret,
    without_query,
)
from app.services import webhook
from app.services.access.audit import Audited
from app.services.ids import DELIVERY, ENDPOINT
from app.services.webhooks import deliveries, endpoints, replays
from app.wiring import Resources

router = APIRouter(tags=["webhooks"])
READ, WRITE = [needs(Scope.JOBS_READ)], [needs(Scope.WEBHOOKS_WRITE)]

EndpointId = Annotated[str, Path(description="Id of the endpoint.", json_schema_extra={"pattern": ENDPOINT.pattern})]
DeliveryId = Annotated[str, Path(description="Id of the delivery.", json_schema_extra={"pattern": DELIVERY.pattern})]


@router.post(
    "/webhooks",
    dependencies=WRITE,
    status_code=201,
    summary="Register a receiver of events",
    responses=ENDPOINT_RESPONSES,
)
async def create_endpoint(
    new: NewEndpoint, resources: CurrentResources, own: Own, principal: CurrentPrincipal, response: Response
) -> EndpointWithSecret:
    """The answer has the secret with which the receiver checks signatures; it is not shown again."""
    await _check(new.url, resources)
    created = Audited(
        principal=principal,
        action="endpoint.created",
        subject=lambda made: made[0].id,
        details=lambda made: {"url": without_query(made[0].url)},
    )
    endpoint, secret = await own.call(
        created, endpoints.create, url=new.url, events=new.events, description=new.description
    )
    response.headers["Location"] = f"/webhooks/{endpoint.id}"
    return EndpointWithSecret(**EndpointView.model_validate(endpoint).model_dump(), secret=secret)


@router.head("/webhooks", dependencies=READ, include_in_schema=False)
@router.get("/webhooks", dependencies=READ, summary="Every endpoint")
async def list_endpoints(own: Own) -> EndpointList:
    found = await own.read(endpoints.every)
    return EndpointList(data=[EndpointView.model_validate(endpoint) for endpoint in found])


@router.head("/webhooks/{endpoint_id}", dependencies=READ, include_in_schema=False)
@router.get("/webhooks/{endpoint_id}", dependencies=READ, summary="One endpoint", responses=problems(404))
async def get_endpoint(endpoint_id: EndpointId, own: Own) -> EndpointView:
    return EndpointView.model_validate(await own.read(endpoints.get, endpoint_id))


@router.patch("/webhooks/{endpoint_id}", dependencies=WRITE, summary="Change an endpoint", responses=problems(404, 422))
async def change_endpoint(
    endpoint_id: EndpointId,
    change: EndpointChange,
    resources: CurrentResources,
    own: Own,
    principal: CurrentPrincipal,
) -> EndpointView:
    """Waiting deliveries go to the new URL. An endpoint gets no events of the time in which it was disabled; a replay
    sends them."""
    if change.url is not None:
        await _check(change.url, resources)
    values = change.model_dump(mode="json", exclude_none=True)
    changed = Audited(
        principal=principal,
        action="endpoint.changed",
        subject=lambda _: endpoint_id,
        details=lambda _: {"changed": sorted(values)},
    )
    return EndpointView.model_validate(await own.call(changed, endpoints.change, endpoint_id, values))


@router.delete(
    "/webhooks/{endpoint_id}",
    dependencies=WRITE,
    status_code=204,
    summary="Remove an endpoint and its deliveries",
    responses=problems(404),
)
async def delete_endpoint(endpoint_id: EndpointId, own: Own, principal: CurrentPrincipal) -> None:
    """With very many deliveries this may take longer than a request is allowed to; then repeat it."""
    await own.call(endpoints.retire, endpoint_id)
    while await own.call(endpoints.remove_deliveries, endpoint_id):
        pass  # each batch is its own transaction, so that jobs can end in between
    deleted = Audited(
        principal=principal, action="endpoint.deleted", subject=lambda gone: endpoint_id if gone else None
    )
    await own.call(deleted, endpoints.delete, endpoint_id)


@router.post(
    "/webhooks/{endpoint_id}/rotate",
    dependencies=WRITE,
    summary="Give an endpoint a new secret",
    responses=problems(404, 422),
)
async def rotate_secret(
    endpoint_id: EndpointId, own: Own, principal: CurrentPrincipal, rotation: Rotation | None = None
) -> Secret:
    """For a time everything is signed with both secrets, so that the receiver can switch at any moment."""
    seconds = (rotation or Rotation()).overlap_seconds
    rotated = Audited(principal=principal, action="endpoint.secret_rotated", subject=lambda _: endpoint_id)
    return Secret(secret=await own.call(rotated, endpoints.rotate, endpoint_id, seconds))


@router.post(
    "/webhooks/{endpoint_id}/test",
    dependencies=WRITE,
    status_code=202,
    summary="Send an event of type webhook.test",
    responses=DELIVERY_RESPONSES,
)
async def test_endpoint(endpoint_id: EndpointId, own: Own, response: Response) -> DeliveryView:
    """`Location` is the address of the delivery."""
    return _accepted(await own.call(webhook.send_test, endpoint_id), response)


@router.post(
    "/webhooks/{endpoint_id}/replay",
    dependencies=WRITE,
    status_code=202,
    summary="Send all events since a time again",
    responses=problems(404, 409, 422),
)
async def replay_events(endpoint_id: EndpointId, wanted: ReplayRequest, own: Own, response: Response) -> ReplayView:
    """This includes events from before the endpoint was registered, as far as the log goes back. Each event keeps its
    `webhook-id`. `Location` is the address of the replay."""
    replay = replays.Wanted(
        endpoint_id=endpoint_id,
        since=wanted.since,
        until=wanted.until,
        missed_only=wanted.missed_only,
    )
    started = await own.call(replays.start, replay)
    response.headers["Location"] = f"/webhooks/{endpoint_id}/replays"
    return ReplayView.model_validate(started)


@router.head("/webhooks/{endpoint_id}/replays", dependencies=READ, include_in_schema=False)
@router.get(
    "/webhooks/{endpoint_id}/replays",
    dependencies=READ,
    summary="Replays and their progress",
    responses=problems(404),
)
async def list_replays(endpoint_id: EndpointId, own: Own) -> ReplayList:
    """Newest first, as far as the log goes back."""
    found = await own.read(replays.newest, endpoint_id)
    return ReplayList(data=[ReplayView.model_validate(replay) for replay in found])


@router.head("/deliveries", dependencies=READ, include_in_schema=False)
@router.get(
    "/deliveries", dependencies=READ, summary="What was sent to receivers, newest first", responses=problems(400, 422)
)
async def list_deliveries(
    request: Request,
    own: Own,
    response: Response,
    limit: Annotated[int, Field(ge=1, le=deliveries.MAX_PAGE), WholeNumber, Query()] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=64)] = None,
    status: Annotated[DeliveryStatus | None, Query(description="Only deliveries in this state.")] = None,
    endpoint: Annotated[str | None, Query(description="Only to this endpoint.", pattern=ENDPOINT.pattern)] = None,
    job: Annotated[UUID | None, Query(description="Only about this job.")] = None,
) -> DeliveryPage:
    found, next_cursor = await own.read(
        deliveries.list_page, limit=limit, cursor=cursor, status=status, endpoint_id=endpoint, job_id=job
    )
    link_next(request, response, next_cursor)
    views = [DeliverySummary(**_summary(delivery)) for delivery in found]
    return DeliveryPage(data=views, next_cursor=next_cursor, has_more=next_cursor is not None)


@router.head("/deliveries/{delivery_id}", dependencies=READ, include_in_schema=False)
@router.get(
    "/deliveries/{delivery_id}", dependencies=READ, summary="One delivery with its attempts", responses=problems(404)
)
async def get_delivery(delivery_id: DeliveryId, own: Own) -> DeliveryView:
    return _view(await own.read(deliveries.get, delivery_id))


@router.post(
    "/deliveries/{delivery_id}/replay",
    dependencies=WRITE,
    status_code=202,
    summary="Send one event again",
    responses=DELIVERY_RESPONSES,
)
async def replay_delivery(delivery_id: DeliveryId, own: Own, response: Response) -> DeliveryView:
    """The event is sent at once, and on a new schedule if that fails; it keeps its `webhook-id`."""
    return _accepted(await own.call(deliveries.replay, delivery_id), response)


async def _check(url: str, resources: Resources) -> None:
    try:
        await resources.egress.check(url)
    except InvalidWebhookUrl as error:
        error.pointer = "#/url"  # the field's name in this request
        raise


def _accepted(delivery: WebhookDelivery, response: Response) -> DeliveryView:
    response.headers["Location"] = f"/deliveries/{delivery.id}"
    return _view(delivery)


def _view(delivery: WebhookDelivery) -> DeliveryView:
    attempts = [AttemptView.model_validate(attempt) for attempt in delivery.tries]
    return DeliveryView(**_summary(delivery), attempts=attempts)


def _summary(delivery: WebhookDelivery) -> dict[str, Any]:
    pending = delivery.status == DeliveryStatus.PENDING
    own = ("id", "endpoint_id", "url", "status", "postponements", "created_at", "delivered_at")
    return {
        **{name: getattr(delivery, name) for name in own},
        "webhook_id": delivery.event_id,
        "event": delivery.event.type,
        "job_id": delivery.event.job_id,
        "attempt_count": delivery.attempts,
        "next_attempt_at": delivery.next_attempt_at if pending else None,
        "expires_at": delivery.expires_at if pending else None,
        "error": delivery.last_error,
    }
