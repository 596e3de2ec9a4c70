"""Health: whether the process is alive, whether it can accept work, and the state of everything that it needs."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from app.routers.access import ANYBODY, OPERATOR
from app.routers.dependencies import CurrentResources
from app.schemas import Count, Model, left_out
from app.services.monitoring.checks import Check, Health
from app.services.monitoring.probes import ESSENTIAL

router = APIRouter(prefix="/health", tags=["health"])


class HealthCheck(Model):
    """One part of the service."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    status: Health
    seconds: float
    error: str = Field("", description="Why it is not ok.", json_schema_extra=left_out)


class QueueView(Model):
    """One queue."""

    messages: Count = Field(description="Messages ready for a worker.")
    workers: Count = Field(description="Consumers of the queue.")


class Readiness(Model):
    """Whether work can be accepted, and the state of the parts that this needs."""

    status: Health
    checks: dict[str, HealthCheck]


class HealthView(Readiness):
    """The state of every part."""

    queues: dict[str, QueueView]


class Liveness(Model):
    """The process answers."""

    status: Literal["ok"] = "ok"


def _unavailable(model: type[Model]) -> dict[int | str, dict[str, Any]]:
    return {503: {"description": "Nothing can be accepted.", "model": model}}


@router.head("/live", dependencies=[ANYBODY], include_in_schema=False)
@router.get("/live", dependencies=[ANYBODY], summary="Whether the process answers; checks nothing else")
async def check_liveness() -> Liveness:
    return Liveness(status="ok")


@router.head("/ready", dependencies=[ANYBODY], include_in_schema=False)
@router.get(
    "/ready",
    dependencies=[ANYBODY],
    summary="Whether work can be accepted: database and storage answer",
    response_model=Readiness,
    responses=_unavailable(Readiness),
)
async def check_readiness(resources: CurrentResources) -> JSONResponse:
    """Broker and workers may be away: accepted jobs wait in the database meanwhile."""
    checks = await resources.checks.run(*ESSENTIAL)
    return _answer(resources.checks.overall(checks), checks)


@router.head("", dependencies=[OPERATOR], include_in_schema=False)
@router.get(
    "",
    dependencies=[OPERATOR],
    summary="Every dependency with its latency, the queues and their workers",
    response_model=HealthView,
    responses=_unavailable(HealthView),
)
async def check_health(resources: CurrentResources) -> JSONResponse:
    """`degraded`: work is accepted, and waits until the missing part is back. For people and dashboards, not for probes
    that restart processes."""
    checks = await resources.checks.run()
    broker = checks.get("broker")
    queues = broker.value if broker and broker.value else {}
    return _answer(
        resources.checks.overall(checks),
        checks,
        queues={name: {"messages": state.messages, "workers": state.workers} for name, state in queues.items()},
    )


def _answer(overall: Health, checks: dict[str, Check], **members: Any) -> JSONResponse:
    shown = {name: check.as_json() for name, check in checks.items()}
    status_code = 503 if overall is Health.DOWN else 200
    return JSONResponse({"status": overall.value, "checks": shown, **members}, status_code=status_code)
