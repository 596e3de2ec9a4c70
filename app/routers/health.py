"""Whether the process lives, and whether it can take work."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.routers.dependencies import CurrentResources

router = APIRouter(prefix="/health", tags=["health"])

TIMEOUT = 3.0  # seconds for each dependency


@router.head("/live", include_in_schema=False)
@router.get("/live", summary="The process answers; touches nothing else")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Work can be accepted: database and storage answer", responses={503: {}})
async def ready(resources: CurrentResources) -> JSONResponse:
    database, storage = await asyncio.gather(
        _check(resources.database.read(_select_one)), _check(resources.storage.check())
    )
    checks = {"database": database, "storage": storage}
    able = all(check["status"] == "ok" for check in checks.values())
    return JSONResponse({"status": "ok" if able else "down", "checks": checks}, status_code=200 if able else 503)


def _select_one(session: Session) -> None:
    session.execute(text("SELECT 1"))


async def _check(question: Awaitable[None]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        await asyncio.wait_for(question, TIMEOUT)
        status = "ok"
    except Exception as error:  # noqa: BLE001 - whatever a client library raises: the dependency does not answer
        return {"status": "down", "error": type(error).__name__}
    return {"status": status, "seconds": round(time.perf_counter() - start, 4)}
