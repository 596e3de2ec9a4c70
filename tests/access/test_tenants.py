"""What one tenant owns is not there for another one: in no route, by no id, in no list, count or stream."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria

from app import tenancy
from app.database import Base, Database
from app.errors import KnownPoison
from app.models import (
    ApiKey,
    Asset,
    Event,
    Job,
    JobTombstone,
    Scope,
    Template,
    TemplateVersion,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookReplay,
)
from app.services import dead_letters, jobs
from app.services.dag_builder import Plan
from app.services.webhooks import endpoints, replays
from app.tenancy import DEFAULT_TENANT, Owned
from tests.support.tenants import (
    ALL_OF_A_TENANT,
    TREE,
    Belongings,
    Service,
    everything,
    new_key,
    picture,
    poison,
    shown,
)

OPERATORS = {"/health", "/metrics", "/tenants"}
#: names that do not resolve; loopback is no place for events once there are keys
BODIES: dict[str, dict[str, Any]] = {
    "create_endpoint": {"json": {"url": "http://hooks.invalid/", "description": "new"}},
    "change_endpoint": {"json": {"description": "changed"}},
    "replay_events": {"json": {"since": "2026-01-01T00:00:00Z"}},
    "create_key": {"json": {"scopes": ["jobs:read"]}},
    "plan_job": {"data": {"operations": json.dumps(TREE)}, "files": {"file": ("own.png", picture())}},
    "put_template": {"json": {"operations": ["flip"]}},
    "put_asset": {"content": picture()},
    "submit_job": {"data": {"operations": json.dumps(TREE)}, "files": {"file": ("own.png", picture())}},
}
#: tables that belong to a tenant by what they refer to, and those of the service itself
CHILDREN = {"job_steps", "step_attempts", "job_results", "delivery_attempts", "webhook_replays"}
OF_THE_SERVICE = {"outbox", "counters", "tenants", "tenant_turns", "due_tasks"}
#: what a name is given to: another tenant has others of the same names
MAKES_OWN = {"put_store"}
#: parameters of queries that name nothing
HARMLESS = {
    *("limit", "cursor", "status", "type", "expires", "signature", "since", "until"),
    *("created_after", "created_before"),
}
#: what is made under a name; a name of another one is tried in the tests of each kind
BY_NAME = {"put_template", "put_asset"}


@dataclass(frozen=True)
class Request:
    """One request of the description, with somebody's ids."""

    operation_id: str
    method: str
    template: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()

    @property
    def by_id(self) -> bool:
        return "{" in self.template

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        body = BODIES.get(self.operation_id, {})
        return await client.request(self.method, self.path, params=self.params, timeout=30, **body)


def requests(document: dict[str, Any], whose: Belongings) -> Iterator[Request]:
    """Every route with every kind of id that it takes; one that is not known here fails the test."""
    ids = {
        "job_id": str(whose.job),
        "name": whose.result,
        "endpoint_id": whose.endpoint,
        "delivery_id": whose.delivery,
        "key_id": whose.key_id,
        "template_name": whose.name,
        "asset_name": whose.name,
        "store": whose.store,
        "letter_id": whose.letter,
    }
    of_jobs = {"tag": f"owner:{whose.tenant}", "external_id": whose.name, "filename": "photo.jpg"}
    queries = of_jobs | {
        "endpoint": whose.endpoint,
        "job": str(whose.job),
        "after": whose.event,
        "tenant": whose.tenant,
    }
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            known = dict.fromkeys(ids, "other") if operation["operationId"] in BY_NAME else ids
            in_path = {each["name"]: known[each["name"]] for each in parameters if each["in"] == "path"}
            in_query = [each["name"] for each in parameters if each["in"] == "query" and each["name"] not in HARMLESS]
            common = (operation["operationId"], method, template, template.format(**in_path))
            for params in ({}, *({name: queries[name]} for name in in_query)):
                yield Request(*common, params=params, named=frozenset({*in_path.values(), *params.values()}))
            if "job_id" in in_path:
                expired = {**in_path, "job_id": str(whose.expired)}
                yield Request(*common[:3], template.format(**expired), named=frozenset(expired.values()))


def see_nothing(service: Service, viewer: str, whose: Belongings) -> None:
    """Take every route with another tenant's key: what is there looks as if it were not, and stays as it is."""
    before = everything(service.resources, whose)

    async def walk() -> None:
        async with service.client(viewer) as client:
            for request in requests(service.app.openapi(), whose):
                _check(request, await request.send(client), whose)

    service.ask(walk())
    assert everything(service.resources, whose) == before


def _check(request: Request, answer: httpx.Response, whose: Belongings) -> None:
    what = f"{request.method} {request.path} {request.params}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code < 500, what
    if "tenant" in request.params or request.path in OPERATORS:
        assert answer.json()["code"] == "missing_scope", what
    elif request.operation_id in BY_NAME:
        assert answer.status_code == 201, what
    elif request.operation_id in MAKES_OWN:
        assert answer.status_code in {200, 201, 422}, what
    elif request.by_id:
        assert answer.status_code == 404, what
    assert not shown(whose.marks - request.named, answer.text), what


@pytest.mark.slow
def test_every_route_of_the_description_is_blind_to_another_tenant(
    service: Service, ann: Belongings, bob: Belongings
) -> None:
    see_nothing(service, bob.key, ann)


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.full)], indirect=True)
def test_with_the_own_key_everything_is_there(service: Service, ann: Belongings, bob: Belongings) -> None:
    """Without this, the test above could look for what is never shown."""

    async def walk() -> dict[str, int]:
        async with service.client(ann.key) as client:
            sent = [request for request in requests(service.app.openapi(), ann) if request.method == "get"]
            return {f"{each.path} {each.params}": (await each.send(client)).status_code for each in sent}

    statuses = service.ask(walk())
    assert {what.split()[0] for what, status in statuses.items() if status not in {200, 410}} <= OPERATORS
    gone = {what for what, status in statuses.items() if status == 410}
    assert gone
    assert all(str(ann.expired) in what for what in gone)
    assert len(statuses) > 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "forgotten",
    [
        Job,
        Event,
        *(
            pytest.param(table, marks=pytest.mark.full)
            for table in (JobTombstone, WebhookEndpoint, WebhookDelivery, ApiKey, TemplateVersion, Template, Asset)
        ),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_filter_that_is_missing_is_found(
    service: Service, ann: Belongings, bob: Belongings, forgotten: type[Owned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary: with any one filter taken away, the walk over all routes fails."""

    def without(state: ORMExecuteState, tenant: str) -> None:
        if state.is_orm_statement and not state.is_column_load:
            kept = [table for table in Owned.__subclasses__() if table is not forgotten]
            own = [with_loader_criteria(table, table.tenant == tenant) for table in kept]
            state.statement = state.statement.options(*own)

    monkeypatch.setattr(tenancy, "add_condition", without)
    with pytest.raises(AssertionError):
        see_nothing(service, bob.key, ann)


def test_every_table_says_whose_its_rows_are() -> None:
    owned = {mapper.local_table.name for mapper in Base.registry.mappers if issubclass(mapper.class_, Owned)}
    assert set(Base.metadata.tables) - owned == CHILDREN | OF_THE_SERVICE


@pytest.mark.parametrize(("session_of", "row_of"), [(None, None), ("ann", "bob")])
def test_a_row_of_nobody_or_of_another_one_is_not_written(
    database: Database, session_of: str | None, row_of: str | None
) -> None:
    with pytest.raises(ValueError, match="a WebhookEndpoint of"), database.session(tenant=session_of) as session:
        session.add(WebhookEndpoint(tenant=row_of, id="ep_1", url="", events=[]))


def test_nobody_waits_for_another_ones_job(service: Service, ann: Belongings, bob: Belongings) -> None:
    async def look() -> httpx.Response:
        async with service.client(bob.key) as client:
            asked = client.get(f"/jobs/{ann.open_job}", headers={"Prefer": "wait=60"})
            return await asyncio.wait_for(asked, 30)

    assert service.ask(look()).status_code == 404


def test_the_operators_key_sees_no_jobs_of_others_and_numbers_without_names(
    service: Service, database: Database, ann: Belongings
) -> None:
    admin = new_key(database, DEFAULT_TENANT, frozenset({Scope.ADMIN}))

    async def look() -> list[httpx.Response]:
        async with service.client(admin) as client:
            return [await client.get(path) for path in ("/jobs", f"/jobs/{ann.job}", "/metrics", "/keys?tenant=ann")]

    listed, job, metrics, keys = service.ask(look())
    assert (listed.json()["data"], job.status_code) == ([], 404)
    assert metrics.status_code == 200
    assert not shown(ann.marks, metrics.text)
    assert [key["id"] for key in keys.json()["data"]] == [ann.key_id]


def test_a_result_needs_no_link_with_a_key(service: Service, ann: Belongings) -> None:
    async def look() -> list[httpx.Response]:
        async with service.client(ann.key) as client, service.client() as stranger:
            path = f"/jobs/{ann.job}/results/{ann.result}"
            link = (await client.get(f"/jobs/{ann.job}")).json()["results"][0]["url"].partition("/jobs")
            return [await client.get(path), await stranger.get(f"/jobs{link[2]}"), await stranger.get(path)]

    own, linked, without = service.ask(look())
    assert (own.status_code, own.content, linked.content) == (200, b"ann" * 100, b"ann" * 100)
    assert (without.status_code, without.json()["code"]) == (401, "missing_key")


def test_an_idempotency_key_is_known_by_its_tenant_whichever_key_it_comes_with(
    service: Service, database: Database, ann: Belongings, bob: Belongings
) -> None:
    rotated = new_key(database, "ann", ALL_OF_A_TENANT)
    headers = {"Idempotency-Key": str(uuid4())}

    async def submit() -> list[httpx.Response]:
        answers = []
        for key in (ann.key, rotated, bob.key):
            async with service.client(key, headers=headers) as client:
                answers.append(await client.post("/process", **BODIES["submit_job"]))
        return answers

    first, again, others = service.ask(submit())
    assert [answer.status_code for answer in (first, again, others)] == [202] * 3, first.text
    assert first.json()["id"] == again.json()["id"] != others.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    with database.session(read_only=True) as session:
        job = jobs.get(session, UUID(others.json()["id"]))
    assert (job.tenant, job.key_id) == ("bob", bob.key_id)


def test_poison_is_known_to_its_own_tenant_only(database: Database, ann: Belongings, bob: Belongings) -> None:
    with database.session(read_only=True) as session:
        job = jobs.get(session, ann.job)
    poison(database, ann.job, str(job.input_sha256))
    plan = Plan.from_json(job.plan)
    with database.session(read_only=True) as session:
        with pytest.raises(KnownPoison):
            dead_letters.refuse_known(session, str(job.input_sha256), plan, "ann")
        dead_letters.refuse_known(session, str(job.input_sha256), plan, "bob")


def test_events_go_to_the_endpoints_of_their_tenant_signed_with_its_secrets(
    database: Database, ann: Belongings, bob: Belongings
) -> None:
    with database.session() as session:
        for whose in (ann, bob):
            targets = endpoints.targets(session, whose.tenant, "job.completed", None)
            assert [target.endpoint_id for target in targets] == [whose.endpoint]
        of_jobs = [endpoints.secrets(session, None, whose.tenant) for whose in (ann, bob)]
        assert of_jobs[0] != of_jobs[1]
        assert of_jobs == [endpoints.secrets(session, None, whose.tenant) for whose in (ann, bob)]
        assert endpoints.secrets(session, ann.endpoint, "bob") == []


@pytest.mark.slow
def test_a_replay_sends_its_own_tenants_events_only(database: Database, ann: Belongings, bob: Belongings) -> None:
    with database.session() as session:
        replay = session.get_one(WebhookReplay, bob.replay)
        replays.run_batch(session, bob.replay, replay.after)
        found = (replay.events, replay.finished_at is not None)
    assert found == (1, True), "what ann has missed is none of what bob has"


def test_limits_count_ones_own(
    service: Service, ann: Belongings, bob: Belongings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)

    async def register() -> list[int]:
        async with service.client(bob.key) as client:
            return [(await client.post("/webhooks", **BODIES["create_endpoint"])).status_code for _ in range(2)]

    assert service.ask(register()) == [201, 422], "those of ann would have been the limit already"
