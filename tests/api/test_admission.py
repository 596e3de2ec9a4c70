"""Who may talk to the server: by Host, by origin, and never PixTools itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.admission import AdmissionMiddleware
from app.config import Settings
from app.middleware import RequestMiddleware

PUBLIC = "https://images.test:8443"


def application(**settings: Any) -> FastAPI:
    app = FastAPI(telemetry={"tracing": False})
    app.add_middleware(AdmissionMiddleware)
    app.add_middleware(RequestMiddleware)
    app.state.resources = SimpleNamespace(settings=Settings(_env_file=None, **settings))  # type: ignore[call-arg]

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def anything(path: str) -> dict[str, str]:
        return {"path": path}

    return app


def ask(method: str, path: str, headers: dict[str, str], **settings: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(**settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "localhost.", "images.test"]
)
def test_on_loopback_loopback_and_the_public_name_are_answered(host: str) -> None:
    assert ask("GET", "/jobs", {"Host": host}, public_url=PUBLIC).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8000", "127.0.0.1.evil.test", "10.0.0.1", "localhost.evil.test"]
)
def test_on_loopback_other_hosts_are_refused_and_the_setting_is_named(host: str) -> None:
    answer = ask("GET", "/jobs", {"Host": host})
    assert refused(answer) == (421, "host_refused")
    assert "PIXTOOLS_ALLOWED_HOSTS" in answer.json()["detail"]


def test_elsewhere_any_host_is_answered_unless_some_are_named() -> None:
    assert ask("GET", "/jobs", {"Host": "any.test"}, host="0.0.0.0").status_code == 200
    named = {"host": "0.0.0.0", "allowed_hosts": "localhost, Images.test"}
    assert ask("GET", "/jobs", {"Host": "images.test:1"}, **named).status_code == 200
    assert refused(ask("GET", "/jobs", {"Host": "127.0.0.1"}, **named)) == (421, "host_refused")
    assert ask("GET", "/jobs", {"Host": "any.test"}, allowed_hosts="*").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_probes_come_by_any_address(path: str) -> None:
    assert ask("GET", path, {"Host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize("host", ["a" * 60_000, "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "é", "<script>"])
@pytest.mark.parametrize("path", ["/jobs", "/health/live"])
def test_what_is_no_host_is_refused_everywhere(host: str, path: str) -> None:
    answer = ask("GET", path, {"Host": host.encode("latin-1")}, host="0.0.0.0")  # type: ignore[dict-item]
    assert refused(answer) == (400, "invalid_request")
    assert len(answer.content) < 1000


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"},
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://[", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://localhost:8000.evil.test"},
]
OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost:8000"},
    {"Origin": PUBLIC},
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_pages_of_other_origins_change_nothing(method: str, headers: dict[str, str]) -> None:
    assert refused(ask(method, "/jobs/1/cancel", headers, public_url=PUBLIC)) == (403, "foreign_origin")
    assert ask("GET", "/jobs/1", headers).status_code == 200  # which browsers let no other origin read


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_own_pages_and_other_clients_may_change_things(headers: dict[str, str]) -> None:
    assert ask("POST", "/jobs/1/cancel", headers, public_url=PUBLIC).status_code == 200


def test_webhooks_of_pixtools_are_refused() -> None:
    assert refused(ask("POST", "/webhooks/1/test", {"PixTools-Delivery": "dlv_1"})) == (403, "own_webhook")


@pytest.mark.parametrize("target", ["/" + "a" * 8192, "/?" + "a" * 8192])
def test_a_long_target_is_refused(target: str) -> None:
    answer = ask("GET", target, {})
    assert refused(answer) == (414, "target_too_long")
    assert answer.json()["limit"] == 8192
    assert len(answer.content) < 1000


def test_answers_are_private() -> None:
    for answer in (ask("GET", "/jobs", {}), ask("GET", "/jobs", {"Host": "evil.test"})):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
