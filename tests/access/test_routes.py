"""Every route declares who may use it, and all others are refused."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter

from app.database import Database
from app.main import ROUTERS, app
from app.models import Scope
from app.routers.access import check_declared
from app.routers.site import SITE
from app.services.access import keys
from app.tenancy import DEFAULT_TENANT
from tests.support.deployment import ROOT
from tests.support.tenants import PORT, Service, new_key

#: what answers without a key, in the description
OPEN = {("get", "/operations"), ("get", "/health/live"), ("get", "/health/ready")}
#: what answers without a key, and is not in the description; signed links are opened in test_tenants.py
OPEN_PAGES = ("/docs", "/docs/docs.js", "/openapi.json", "/health/live", "/health/ready", "/operations")
READ, WRITE, HOOKS, KEYS, STORES = "jobs:read", "jobs:write", "webhooks:write", "keys:write", "stores:write"
TEMPLATES = "templates:write"
SCOPES = {
    ("post", "/process"): WRITE,
    ("post", "/plan"): WRITE,
    ("get", "/jobs"): READ,
    ("get", "/jobs/{job_id}"): READ,
    ("delete", "/jobs/{job_id}"): WRITE,
    ("post", "/jobs/{job_id}/cancel"): WRITE,
    ("post", "/jobs/{job_id}/retry"): WRITE,
    ("get", "/jobs/{job_id}/archive"): READ,
    ("get", "/jobs/{job_id}/events"): READ,
    ("get", "/jobs/{job_id}/results/{name}"): READ,
    ("get", "/templates"): READ,
    ("get", "/templates/{template_name}"): READ,
    ("put", "/templates/{template_name}"): TEMPLATES,
    ("delete", "/templates/{template_name}"): TEMPLATES,
    ("get", "/assets"): READ,
    ("get", "/assets/{asset_name}"): READ,
    ("put", "/assets/{asset_name}"): TEMPLATES,
    ("delete", "/assets/{asset_name}"): TEMPLATES,
    ("get", "/stores"): READ,
    ("get", "/stores/{store}"): READ,
    ("put", "/stores/{store}"): STORES,
    ("delete", "/stores/{store}"): STORES,
    ("get", "/jobs/{job_id}/timeline"): READ,
    ("get", "/dead-letters"): READ,
    ("post", "/dead-letters/{letter_id}/redrive"): WRITE,
    ("get", "/tenants"): "admin",
    ("get", "/webhooks"): READ,
    ("post", "/webhooks"): HOOKS,
    ("get", "/webhooks/{endpoint_id}"): READ,
    ("patch", "/webhooks/{endpoint_id}"): HOOKS,
    ("delete", "/webhooks/{endpoint_id}"): HOOKS,
    ("post", "/webhooks/{endpoint_id}/rotate"): HOOKS,
    ("post", "/webhooks/{endpoint_id}/test"): HOOKS,
    ("post", "/webhooks/{endpoint_id}/replay"): HOOKS,
    ("get", "/webhooks/{endpoint_id}/replays"): READ,
    ("get", "/deliveries"): READ,
    ("get", "/deliveries/{delivery_id}"): READ,
    ("post", "/deliveries/{delivery_id}/replay"): HOOKS,
    ("get", "/events"): READ,
    ("get", "/events/stream"): READ,
    ("get", "/keys"): KEYS,
    ("post", "/keys"): KEYS,
    ("delete", "/keys/{key_id}"): KEYS,
    ("get", "/usage"): KEYS,
    ("get", "/audit"): KEYS,
    ("get", "/health"): "admin",
    ("get", "/metrics"): "admin",
}
#: ids that nothing has: what gets through finds nothing, and changes nothing
IDS = {
    "job_id": str(uuid4()),
    "name": "none",
    "endpoint_id": f"ep_{uuid4().hex}",
    "delivery_id": f"dlv_{uuid4().hex}",
    "key_id": "a" * 12,
    "template_name": "none",
    "asset_name": "none",
    "store": "none",
    "letter_id": "none",
}
SLOW = {"/health", "/metrics"}  # looks at everything; once is enough


def ask_every_route(
    service: Service, key: str | None, routes: Any = SCOPES, **client: Any
) -> dict[tuple[str, str], httpx.Response]:
    async def walk() -> dict[tuple[str, str], httpx.Response]:
        async with service.client(key, **client) as asking:
            return {
                (method, path): await asking.request(method, path.format(**IDS), json={} if method == "patch" else None)
                for method, path in routes
            }

    return service.ask(walk())


def test_every_route_declares_the_scope_that_it_needs() -> None:
    paths = app.openapi()["paths"]
    routes = {(method, path): each for path, methods in paths.items() for method, each in methods.items()}
    declared = {route: each["security"][0]["key"][0] for route, each in routes.items() if "security" in each}
    assert declared == SCOPES
    assert routes.keys() - declared.keys() == OPEN


def test_a_route_that_declares_nothing_is_not_served() -> None:
    for router in ROUTERS:
        check_declared(router)  # those outside of the description as well
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/forgotten"):
        check_declared(router)


def test_routes_work_on_the_rows_of_their_tenant_only() -> None:
    """Where a route takes the database of all tenants it says why, here."""
    allowed = {
        "access.py": 4,
        "events.py": 2,
        "letters.py": 2,
    }  # to bind it to a tenant, or for a link; to number events; to list tenants
    for file in (ROOT / "app" / "routers").glob("*.py"):
        used = len(re.findall(r"resources\.database", file.read_text()))
        assert used == allowed.get(file.name, 0), file.name


@pytest.mark.slow
@pytest.mark.parametrize("scope", [scope.value for scope in Scope])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_scope_opens_its_own_routes_and_no_others(service: Service, database: Database, scope: str) -> None:
    key = new_key(database, DEFAULT_TENANT, frozenset({Scope(scope)}))
    routes = {route for route in SCOPES if scope != "admin" or route[1] not in SLOW}
    for route, answer in ask_every_route(service, key, routes).items():
        if scope in {SCOPES[route], "admin"}:
            assert answer.status_code not in {401, 403}, (route, answer.text)
        else:
            shown = answer.json()
            assert (answer.status_code, shown["code"], shown["value"]) == (403, "missing_scope", SCOPES[route]), route
            assert SCOPES[route] in shown["detail"]


def _spoiled(key: str) -> str:
    return key[:-1] + ("A" if key[-1] != "A" else "B")


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", ["missing_key", "malformed_key", "mistyped_key", "unknown_key", "expired_key", "revoked_key"]
)
def test_no_route_opens_to_a_key_that_is_none(service: Service, database: Database, code: str) -> None:
    key = new_key(database, DEFAULT_TENANT, frozenset(Scope))
    over = {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}
    sent = {
        "missing_key": None,
        "malformed_key": f"{key}x",
        "mistyped_key": _spoiled(key),
        "unknown_key": _of_nobody(key),
        "expired_key": new_key(database, DEFAULT_TENANT, frozenset(Scope), **over),
        "revoked_key": key,
    }[code]
    if code == "revoked_key":
        with database.session() as session:
            keys.revoke(session, key.split("_")[1])
    for route, answer in ask_every_route(service, sent).items():
        assert (answer.status_code, answer.json()["code"]) == (401, code), route
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def _of_nobody(key: str) -> str:
    """A key with a secret of its own and a checksum that fits."""
    _, id_, rest = key.split("_")
    secret = rest[:-6][::-1]
    return f"pxt_{id_}_{secret}{keys._checksum(id_, secret)}"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_needs_no_key_answers_without(service: Service, database: Database) -> None:
    new_key(database, DEFAULT_TENANT)

    async def walk() -> list[int]:
        async with service.client(peer="203.0.113.9") as stranger:
            return [(await stranger.get(path)).status_code for path in OPEN_PAGES]

    assert service.ask(walk()) == [200] * len(OPEN_PAGES)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", ["/", "/admin", "/page/app.js", "/help", "/help/errors", "/llms.txt"])
def test_the_page_and_the_documentation_need_no_key(service: Service, path: str) -> None:
    async def look() -> httpx.Response:
        async with service.client(peer="203.0.113.9") as stranger:
            return await stranger.get(path)

    assert service.ask(look()).status_code == 200


def test_their_routes_declare_that() -> None:
    for router in SITE:
        check_declared(router)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_in_an_address_is_refused_with_the_reason(service: Service, database: Database) -> None:
    key = new_key(database, DEFAULT_TENANT)

    async def ask() -> list[httpx.Response]:
        async with service.client() as client:
            return [
                await client.get(path)
                for path in (f"/jobs?tag={key}", "/operations?access_token=x", "/jobs?cursor=pxt_")
            ]

    *refused, other = service.ask(ask())
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (400, "key_in_query")
        assert key not in answer.text
    assert other.json()["code"] == "missing_key"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_operators_port_has_the_state_of_the_service_only(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    new_key(database, DEFAULT_TENANT)
    service = Service(database_url, tmp_path, metrics_port=PORT)

    async def ask() -> list[int]:
        async with service.client() as client:  # whose port is 80
            return [
                (await client.get(path)).status_code for path in ("/metrics", "/health/live", "/jobs", "/operations")
            ]

    assert service.ask(ask()) == [200, 200, 404, 404]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_makes_no_key_that_may_do_more_or_belongs_to_others(service: Service, database: Database) -> None:
    key = new_key(database, DEFAULT_TENANT, frozenset({Scope.KEYS_WRITE, Scope.JOBS_READ}))

    async def make() -> list[httpx.Response]:
        async with service.client(key) as client:
            bodies: list[dict[str, Any]] = [
                {"scopes": ["jobs:read"], "description": "less"},
                {"scopes": ["jobs:read", "jobs:write"]},
                {"scopes": ["admin"]},
                {"scopes": ["jobs:read"], "tenant": "another"},
                {"scopes": []},
                {"scopes": ["jobs:eat"]},
                {"scopes": ["jobs:read"], "expires_at": "2020-01-01T00:00:00Z"},
                {"scopes": ["jobs:read"], "secret": "mine"},
            ]
            return [await client.post("/keys", json=body) for body in bodies]

    made, *refused = service.ask(make())
    assert made.status_code == 201
    assert made.json()["tenant"] == DEFAULT_TENANT
    assert made.json()["created_by"] == key.split("_")[1]
    codes = [(answer.status_code, answer.json()["code"]) for answer in refused]
    assert codes == [(403, "missing_scope")] * 3 + [(422, "invalid_parameter")] * 4

    async def use() -> list[httpx.Response]:
        async with service.client(made.json()["key"]) as less, service.client(key) as own:
            listed = await own.get("/keys")
            revoked = await own.delete(f"/keys/{made.json()['id']}")
            return [listed, revoked, await less.get("/jobs"), await own.delete("/keys/bbbbbbbbbbbb")]

    listed, revoked, after, unknown = service.ask(use())
    assert [each["description"] for each in listed.json()["data"]] == ["", "less"]
    assert made.json()["key"][20:] not in listed.text
    assert (revoked.status_code, after.json()["code"], unknown.json()["code"]) == (204, "revoked_key", "key_not_found")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_operator_makes_keys_of_other_tenants(service: Service, database: Database) -> None:
    admin = new_key(database, DEFAULT_TENANT, frozenset({Scope.ADMIN}))

    async def make() -> list[httpx.Response]:
        async with service.client(admin) as client:
            new = {"scopes": ["jobs:read"]}
            return [await client.post("/keys", json={**new, "tenant": name}) for name in ("absent", "No Name\0")]

    unknown, invalid = service.ask(make())
    assert (unknown.status_code, unknown.json()["code"]) == (404, "tenant_not_found")
    assert (invalid.status_code, invalid.json()["code"]) == (422, "invalid_tenant_name")
