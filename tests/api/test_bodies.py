"""Bodies of requests: their size, and clients that fall silent in one."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel

from app import problems
from app.bodies import BodyMiddleware, allow_body
from app.config import Settings
from app.errors import UploadTooLarge
from app.middleware import RequestMiddleware

LIMIT = 2000


class Body(BaseModel):
    name: str


def application() -> FastAPI:
    app = FastAPI(telemetry={"tracing": False})
    app.add_middleware(BodyMiddleware)
    app.add_middleware(RequestMiddleware)
    problems.install(app)
    settings = Settings(_env_file=None, max_json_bytes=LIMIT, silence_seconds=0.2)  # type: ignore[call-arg]
    app.state.resources = SimpleNamespace(settings=settings)

    @app.post("/json")
    async def json_(body: Body) -> dict[str, int]:
        return {"size": len(body.name)}

    @app.post("/stream")
    async def stream(request: Request) -> dict[str, int]:
        allow_body(request.scope, 10 * LIMIT)
        return {"size": sum([len(chunk) async for chunk in request.stream()])}

    @app.post("/nearer")
    async def nearer(request: Request) -> dict[str, int]:
        allow_body(request.scope, 10 * LIMIT)
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > LIMIT:
                raise UploadTooLarge("The file is too large.", limit=LIMIT, value=size)
        return {"size": size}

    return app


def post(path: str, *chunks: bytes, silent: bool = False, **headers: str) -> tuple[int, dict[str, Any]]:
    """One request, whose client may never come to an end; the status, and the answer as read."""
    sent: list[Any] = []
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        if waiting:
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(waiting) or silent}
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(application()(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


def named(size: int) -> bytes:
    return b'{"name": "' + b"a" * (size - 12) + b'"}'


def test_a_body_of_the_largest_size_is_read() -> None:
    assert post("/json", named(LIMIT)) == (200, {"size": LIMIT - 12})


@pytest.mark.parametrize("path", ["/json", "/stream"])
def test_a_larger_body_is_refused_while_it_arrives(path: str) -> None:
    limit = LIMIT if path == "/json" else 10 * LIMIT
    status, shown = post(path, *[b" " * 1000] * 100)
    assert (status, shown["code"], shown["limit"], shown["instance"]) == (413, "body_too_large", limit, path)
    assert shown["value"] <= limit + 1000


def test_a_nearer_limit_of_the_route_is_told_also_when_one_piece_passes_both() -> None:
    status, shown = post("/nearer", b" " * 100, b" " * 20 * LIMIT, silent=True)
    assert (status, shown["code"], shown["value"]) == (413, "upload_too_large", 10 * LIMIT)


def test_a_larger_body_is_refused_by_its_announced_length() -> None:
    status, shown = post("/json", b"{}", silent=True, content_length=str(LIMIT + 1))
    assert (status, shown["code"], shown["value"]) == (413, "body_too_large", LIMIT + 1)


@pytest.mark.parametrize("path", ["/json", "/stream"])
@pytest.mark.parametrize("chunks", [(), (b'{"na',)])
def test_a_client_that_falls_silent_is_given_up(path: str, chunks: tuple[bytes, ...]) -> None:
    status, shown = post(path, *chunks, silent=True)
    assert (status, shown["code"], shown["limit"]) == (408, "request_timeout", 0.2)
