"""What every request gets."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from structlog.contextvars import get_contextvars

from app import metrics, problems, tracing
from app.middleware import RequestMiddleware

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def application() -> FastAPI:
    app = FastAPI(telemetry={"tracing": False})
    app.add_middleware(RequestMiddleware)
    problems.install(app)

    @app.get("/things/{name}")
    async def thing(name: str) -> dict[str, object]:
        tracing.bind(job_id=name)
        return {"bound": get_contextvars(), "carried": tracing.carrier()}

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("http://host/?secret")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("cut")

        return StreamingResponse(body())

    return app


def get(path: str, *, raising: bool = True, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(), raise_app_exceptions=raising)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return asyncio.run(ask())


def count(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_request_id_is_taken_and_answered() -> None:
    answer = get("/things/a", X_Request_ID="client-1:a/b.c")
    assert answer.headers["x-request-id"] == "client-1:a/b.c"
    assert answer.json()["bound"] == {"request_id": "client-1:a/b.c", "job_id": "a"}
    assert answer.json()["carried"] == {"request_id": "client-1:a/b.c", "job_id": "a"}


@pytest.mark.parametrize("given", ["", " ", "a b", "a\tb", '"}', "a" * 129, "-a", "a;b"])
def test_a_malformed_request_id_is_replaced(given: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", get("/things/a", X_Request_ID=given).headers["x-request-id"])


def test_every_request_has_an_id_of_its_own() -> None:
    assert len({get("/things/a").headers["x-request-id"] for _ in range(20)}) == 20


def test_a_trace_that_came_in_is_handed_on() -> None:
    answer = get("/things/a", traceparent=PARENT, tracestate="vendor=1").json()
    assert answer["bound"]["trace_id"] == TRACE
    assert answer["carried"]["traceparent"] == PARENT
    assert answer["carried"]["tracestate"] == "vendor=1"


@pytest.mark.parametrize(
    "given", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT + "-more", "ff" + PARENT[2:]]
)
def test_a_malformed_trace_is_ignored(given: str) -> None:
    assert "trace_id" not in get("/things/a", traceparent=given).json()["bound"]


def test_a_crash_is_answered_with_its_id_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    answer = get("/crash", X_Request_ID="it")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "it"
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == ["request_crashed"]


def test_an_answer_that_breaks_off_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="cut"):
        get("/half")
    assert "request_crashed" in caplog.messages


def test_the_access_log_has_no_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    get("/things/a?signature=secret")
    (record,) = [record for record in caplog.records if record.getMessage() == "request"]
    shown = vars(record)
    assert (shown["method"], shown["path"], shown["status"]) == ("GET", "/things/a", 200)
    assert shown["seconds"] >= 0
    assert "secret" not in repr(shown)


def test_labels_are_routes_never_paths() -> None:
    route = {"method": "GET", "route": "/things/{name}"}
    before = count("pixtools_http_requests_total", **route, status="200")
    seconds = count("pixtools_http_request_seconds_count", **route)
    nowhere = {"method": "GET", "route": "none", "status": "404"}
    before_nowhere = count("pixtools_http_requests_total", **nowhere)
    get("/things/a")
    get("/things/b")
    get("/nowhere/at/all")
    assert count("pixtools_http_requests_total", **route, status="200") == before + 2
    assert count("pixtools_http_request_seconds_count", **route) == seconds + 2
    assert count("pixtools_http_requests_total", **nowhere) == before_nowhere + 1
