"""Metrics for Prometheus."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Response

from app import metrics
from app.routers.access import OPERATOR
from app.routers.dependencies import CurrentResources
from app.routers.openapi import METRICS_RESPONSES

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    dependencies=[OPERATOR],
    summary="Metrics in the text formats of Prometheus",
    response_class=Response,
    responses=METRICS_RESPONSES,
)
async def get_metrics(resources: CurrentResources, accept: Annotated[str, Header()] = "") -> Response:
    """The counters of this process, or of all that share `PROMETHEUS_MULTIPROC_DIR`, and the state of the service."""
    text, media_type = await asyncio.to_thread(metrics.render, accept, await resources.gauges.read())
    return Response(text, headers={"Content-Type": media_type})
