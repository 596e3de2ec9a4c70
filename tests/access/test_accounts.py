"""Limits, audit and usage as keys meet them over HTTP and operators on the command line."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import delete, select

from app.database import Database
from app.models import AuditEntry, Scope
from app.services.access import keys, limits, tenants
from app.tenancy import DEFAULT_TENANT
from tests.support.tenants import Belongings, Service, new_key
from tests.support.work import change


@pytest.fixture(autouse=True)
def _no_entries(database: Database) -> Iterator[None]:
    yield
    change(database, delete(AuditEntry))


def entries(database: Database) -> list[tuple[str, str, str, str]]:
    with database.session(read_only=True) as session:
        found = session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        return [(entry.tenant, entry.actor, entry.action, entry.subject) for entry in found]


def asked(service: Service, *requests: tuple[str | None, str, str]) -> list[httpx.Response]:
    """Answers to requests by their key, method and path; refusals are written down then."""

    async def walk() -> list[httpx.Response]:
        answers = []
        for key, method, path in requests:
            async with service.client(key) as client:
                answers.append(await client.request(method, path, json={} if method == "PATCH" else None))
        service.app.state.resources.refusals.run_once()
        return answers

    return service.ask(walk())


def id_of(key: str) -> str:
    return key.split("_")[1]


def test_what_a_known_key_is_refused_is_in_the_log_of_its_tenant(service: Service, database: Database) -> None:
    reader = new_key(database, DEFAULT_TENANT, frozenset({Scope.JOBS_READ}))
    over = new_key(database, DEFAULT_TENANT, frozenset(Scope), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    owner = new_key(database, DEFAULT_TENANT)
    refused = asked(
        service,
        (reader, "GET", "/usage"),
        (reader, "GET", "/audit"),
        (over, "GET", "/jobs"),
        (f"{over}x", "GET", "/jobs"),
    )
    assert [answer.status_code for answer in refused] == [403, 403, 401, 401]
    (log,) = asked(service, (owner, "GET", "/audit"))
    shown = {(line["actor"], line["action"], line["subject"]) for line in map(json.loads, log.text.splitlines())}
    assert shown == {
        (id_of(reader), "request.refused", "missing_scope"),
        (id_of(over), "request.refused", "expired_key"),
    }


def test_a_tenant_that_asks_too_often_is_refused_and_the_others_are_not(
    service: Service, database: Database, ann: Belongings, bob: Belongings
) -> None:
    with database.session() as session:
        limits.change(session, tenants.get(session, "ann"), {"requests_per_minute": 2})
    second = new_key(database, "ann")
    answers = asked(service, *((key, "GET", "/jobs") for key in (ann.key, second, ann.key, bob.key)))
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200], "all keys of a tenant count together"
    refused = answers[2]
    assert (refused.json()["code"], refused.json()["limit"]) == ("rate_limited", 2)
    assert refused.headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert answers[3].headers["ratelimit-policy"] == '"requests";q=60000;w=60'
    assert ("ann", ann.key_id, "request.refused", "rate_limited") in entries(database)


def test_making_and_revoking_a_key_is_in_the_log_of_its_tenant(service: Service, database: Database) -> None:
    owner, operator = new_key(database, DEFAULT_TENANT), new_key(database, DEFAULT_TENANT, frozenset(Scope))
    with database.session() as session:
        tenants.create(session, "ann")

    async def walk() -> tuple[str, str]:
        async with service.client(owner) as client:
            body = {"scopes": ["jobs:read"], "description": "for the shop"}
            own = (await client.post("/keys", json=body)).json()
            assert (await client.delete(f"/keys/{own['id']}")).status_code == 204
            assert (await client.delete(f"/keys/{'a' * 12}")).status_code == 404
        async with service.client(operator) as client:
            other = (await client.post("/keys", json={"scopes": ["jobs:read"], "tenant": "ann"})).json()
        return own["id"], other["id"]

    own, other = service.ask(walk())
    assert entries(database) == [
        (DEFAULT_TENANT, id_of(owner), "key.created", own),
        (DEFAULT_TENANT, id_of(owner), "key.revoked", own),
        ("ann", id_of(operator), "key.created", other),
    ]
    with database.session(read_only=True) as session:
        created = session.scalars(select(AuditEntry).where(AuditEntry.subject == own)).first()
        assert created is not None
        assert created.details == {"scopes": ["jobs:read"], "description": "for the shop"}


def test_a_rate_that_was_changed_holds_when_the_key_is_looked_up_again(service: Service, database: Database) -> None:
    key = new_key(database, DEFAULT_TENANT)
    with database.session() as session:
        found = keys.find(session, keys.parse(key))
        assert found is not None
        assert found.principal.requests_per_minute is None
        limits.change(session, tenants.get(session, DEFAULT_TENANT), {"requests_per_minute": 7})
        again = keys.find(session, keys.parse(key))
        limits.change(session, tenants.get(session, DEFAULT_TENANT), {"requests_per_minute": None})
    assert again is not None
    assert again.principal.requests_per_minute == 7
