"""Whether the process lives, whether it can take work, and how everything that it needs is."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.routers.dependencies import CurrentResources
from app.services.health import Check, Health
from app.services.probes import ESSENTIAL

router = APIRouter(prefix="/health", tags=["health"])

UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: {"description": "Nothing can be accepted."}}


@router.head("/live", include_in_schema=False)
@router.get("/live", summary="The process answers; touches nothing else")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Work can be accepted: database and storage answer", responses=UNAVAILABLE)
async def ready(resources: CurrentResources) -> JSONResponse:
    """Broker and workers may be away: what is accepted meanwhile waits in the database."""
    checks = await resources.checks.run(*ESSENTIAL)
    return _answer(resources.checks.overall(checks), checks)


@router.head("", include_in_schema=False)
@router.get("", summary="Every dependency with its latency, the queues and their workers", responses=UNAVAILABLE)
async def health(resources: CurrentResources) -> JSONResponse:
    """`degraded`: work is accepted, and waits until what is missing is back. For people and dashboards, not for probes
    that restart something."""
    checks = await resources.checks.run()
    broker = checks.get("broker")
    queues = broker.value if broker and broker.value else {}
    return _answer(
        resources.checks.overall(checks),
        checks,
        queues={name: {"messages": state.messages, "workers": state.workers} for name, state in queues.items()},
    )


def _answer(overall: Health, checks: dict[str, Check], **members: Any) -> JSONResponse:
    told = {name: check.as_json() for name, check in checks.items()}
    status_code = 503 if overall is Health.DOWN else 200
    return JSONResponse({"status": overall.value, "checks": told, **members}, status_code=status_code)
