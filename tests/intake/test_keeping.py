"""Jobs as users keep them: tags, a name of their own, a lifetime; what expires is known for a while."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text, update
from uuid_utils.compat import uuid7

from app.database import Database, from_now
from app.errors import ExternalIdTaken
from app.models import Job, JobTag, JobTombstone, TenantRecord
from app.services import jobs
from app.services.jobs import JobFilters
from app.services.storage.local import LocalFolder
from app.services.upkeep.retention import Retention
from app.tenancy import DEFAULT_TENANT
from tests.support.commands import Run
from tests.support.submitting import accepted, asked, call, submit
from tests.support.tenants import Belongings, Service, new_key
from tests.support.work import ON_POSTGRESQL, accept, change, claimed, fail, in_parallel, job_of, run_task

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
TAGS = {"sku": "7", "shop": "a:b ü"}


def expire(database: Database, folder: Path, **kept: float) -> None:
    usual = {"letters_kept_seconds": 60, "events_kept_seconds": 60, "audit_kept_seconds": 60}
    Retention(database, LocalFolder(folder), every_seconds=60, **{**usual, **kept}).run_once()


# -- what a job has ----------------------------------------------------------------------------------------------------


def test_a_job_has_what_was_said_about_it_and_expires_after_its_end(service: Service, database: Database) -> None:
    job = accepted(service, tags=TAGS, external_id="order-1", keep_seconds="600", priority="7")
    shown = {name: job[name] for name in ("tags", "external_id", "priority", "template", "expires_at")}
    assert shown == {"tags": TAGS, "external_id": "order-1", "priority": 7, "template": None, "expires_at": None}
    change(database, update(Job).values(expires_at=from_now(-10)))  # as if it had waited for long
    run_task(database, UUID(job["id"]), "0")
    ended = call(service, "GET", f"/jobs/{job['id']}").json()
    lifetime = datetime.fromisoformat(ended["expires_at"]) - datetime.fromisoformat(ended["finished_at"])
    assert abs(lifetime - timedelta(seconds=600)) < timedelta(seconds=1)
    assert ended["tags"] == TAGS


@ON_SQLITE
def test_a_json_body_says_the_same(service: Service) -> None:
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
    members = {"tags": TAGS, "external_id": "order-1", "keep_seconds": 600}
    body = {"input": {"url": pixel}, "operations": ["convert_webp"], **members}
    job = call(service, "POST", "/process", json=body).json()
    assert (job["tags"], job["external_id"]) == (TAGS, "order-1")
    refused = call(service, "POST", "/process", json={**body, "external_id": 7})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_external_id")


@ON_SQLITE
@pytest.mark.parametrize(
    ("field", "value", "code", "pointer"),
    [
        ("tags", "no JSON", "invalid_tags", "#/tags"),
        ("tags", '{"a": "1", "a": "2"}', "invalid_tags", "#/tags"),
        ("tags", ["a"], "invalid_tags", "#/tags"),
        ("tags", {"a": 1}, "invalid_tags", "#/tags/a"),
        ("tags", {"a/b": "1"}, "invalid_tags", "#/tags/a~1b"),
        ("tags", {"a": "\0"}, "invalid_tags", "#/tags/a"),
        ("tags", {"a": "x" * 256}, "invalid_tags", "#/tags/a"),
        ("tags", {str(number): "1" for number in range(17)}, "invalid_tags", "#/tags"),
        ("tags", {str(number): "x" * 255 for number in range(16)}, "invalid_tags", "#/tags"),
        ("external_id", "x" * 256, "invalid_external_id", "#/external_id"),
        ("external_id", "a\nb", "invalid_external_id", "#/external_id"),
        ("keep_seconds", "0", "invalid_parameter", "#/keep_seconds"),
        ("keep_seconds", "1.5", "invalid_parameter", "#/keep_seconds"),
        ("keep_seconds", str(31 * 86_400), "keep_too_long", "#/keep_seconds"),
    ],
)
def test_what_is_wrong_is_pointed_at(service: Service, field: str, value: Any, code: str, pointer: str) -> None:
    answer = submit(service, **{field: value})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


@ON_SQLITE
def test_empty_fields_say_nothing(service: Service) -> None:
    job = accepted(service, tags="", external_id="", keep_seconds="", template="", params="")
    assert (job["tags"], job["external_id"]) == ({}, None)


@ON_SQLITE
def test_how_long_a_job_may_be_kept_is_its_tenants_limit(service: Service, database: Database, pixtools: Run) -> None:
    change(database, update(TenantRecord).values(max_keep_seconds=1000))
    key = new_key(database, DEFAULT_TENANT)
    refused = submit(service, key, keep_seconds="1001").json()
    assert (refused["code"], refused["limit"], refused["value"]) == ("keep_too_long", 1000, 1001)
    of_all = job_of(database, UUID(accepted(service, key)["id"]))
    own = job_of(database, UUID(accepted(service, key, keep_seconds="1000")["id"]))
    assert (of_all.kept_seconds, own.kept_seconds) == (1000, 1000), "what says nothing is kept no longer either"


def test_a_retry_and_an_earlier_version_keep_what_they_have(database: Database) -> None:
    own, earlier = (accept(database, ["convert_png"], kept_seconds=600) for _ in range(2))
    change(database, update(Job).where(Job.id == earlier).values(kept_seconds=None))
    for job_id in (own, earlier):
        fail(database, claimed(database, job_id, "0"))
        with database.session() as session:
            jobs.retry(session, job_id, kept_seconds=50)
        run_task(database, job_id, "0")
    lifetimes = [job.expires_at - job.finished_at for job in (job_of(database, own), job_of(database, earlier))]
    assert [round(lifetime.total_seconds()) for lifetime in lifetimes] == [600, 50]


# -- a name of its own -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_job_of_the_same_name_is_refused_with_the_first(
    service: Service, ann: Belongings, bob: Belongings, database: Database
) -> None:
    first = accepted(service, ann.key, external_id="order-1", tags=TAGS)
    again = submit(service, ann.key, external_id="order-1")
    assert (again.status_code, again.json()["code"]) == (409, "external_id_taken")
    assert again.json()["job"]["id"] == first["id"]
    assert again.json()["job"]["tags"] == TAGS
    accepted(service, bob.key, external_id="order-1")
    accepted(service, ann.key, external_id="order-2")
    assert call(service, "DELETE", f"/jobs/{first['id']}", ann.key).status_code == 204
    assert accepted(service, ann.key, external_id="order-1")["id"] != first["id"]
    with database.session(read_only=True) as session:
        stored = session.execute(select(Job.tenant, Job.external_id).where(Job.external_id.like("order-%")))
        assert sorted(map(tuple, stored)) == [("ann", "order-1"), ("ann", "order-2"), ("bob", "order-1")]


def test_a_repeat_has_its_turn_before_the_name(service: Service) -> None:
    headers = {"Idempotency-Key": "one"}
    first = submit(service, headers=headers, external_id="order-1", tags=TAGS)
    again = submit(service, headers=headers, external_id="order-1", tags=TAGS)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"]
    for other in ({"tags": {"sku": "8"}}, {"tags": TAGS, "keep_seconds": "60"}, {"tags": TAGS, "external_id": "2"}):
        reused = submit(service, headers=headers, **{"external_id": "order-1", **other})
        assert reused.json()["code"] == "idempotency_key_reused", other
    assert submit(service, headers={"Idempotency-Key": "two"}, external_id="order-1").status_code == 409


def test_a_repeat_that_overtakes_its_first_request_is_answered_as_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a front, both are past the look at stored answers when the first one commits."""
    from app.services import idempotency

    first = submit(service, headers={"Idempotency-Key": "one"}, external_id="order-1").json()
    looks = iter([None])  # the first look comes too early

    def late(session: Any, scope: Any) -> Any:
        return next(looks) if scope and (answer := real(session, scope)) is None else next(looks, answer)

    real = idempotency.stored_answer
    monkeypatch.setattr(idempotency, "stored_answer", late)
    again = submit(service, headers={"Idempotency-Key": "one"}, external_id="order-1")
    assert (again.status_code, again.json()["id"]) == (202, first["id"])


def test_of_many_jobs_of_one_name_at_the_same_time_one_is_accepted(database: Database) -> None:
    def one() -> UUID | None:
        try:
            return accept(database, ["convert_png"], external_id="order-1")
        except ExternalIdTaken as error:
            return -UUID(error.extra["job_id"]).int  # type: ignore[return-value]

    outcomes = in_parallel([one] * 6)
    [won] = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    assert [outcome for outcome in outcomes if outcome != won] == [-won.int] * 5


# -- listings ----------------------------------------------------------------------------------------------------------


def test_jobs_are_found_by_what_was_said_about_them(service: Service, database: Database) -> None:
    one = accepted(service, tags=TAGS, external_id="order-1", filename="a b.png")["id"]
    two = accepted(service, tags={"sku": "7"}, filename="other.png")["id"]
    three = accepted(service, tags={"sku": "8"}, external_id="order-3", filename="a b.png")["id"]
    hour = datetime.now(UTC).replace(microsecond=0)
    change(database, update(Job).where(Job.id == UUID(two)).values(created_at=hour + timedelta(minutes=30)))
    least, most = ((hour + timedelta(minutes=minutes)).isoformat() for minutes in (20, 40))
    expected = {
        "tag=sku:7": [two, one],
        "tag=shop:a:b ü": [one],
        "tag=sku:9": [],
        "external_id=order-3": [three],
        "filename=a b.png": [three, one],
        "tag=sku:7&filename=a b.png&status=pending": [one],
        f"created_after={least}": [two],
        f"created_before={least}": [three, one],
        f"created_after={least}&created_before={most}": [two],
        "created_after=9999-12-31T23:59:59Z": [],
        "created_before=1970-01-01T00:00:00Z": [],
    }
    for query, ids in expected.items():
        params = dict(pair.split("=", 1) for pair in query.split("&"))
        found = call(service, "GET", "/jobs", params=params)
        assert found.status_code == 200, found.text
        assert [job["id"] for job in found.json()["data"]] == ids, query


@ON_SQLITE
def test_pages_of_a_filter_are_its_own(service: Service) -> None:
    ids = [accepted(service, tags={"sku": "7"})["id"] for _ in range(3)]
    accepted(service, tags={"sku": "8"})

    async def walk(client: Any) -> tuple[list[str], str]:
        params: dict[str, Any] = {"tag": "sku:7", "limit": 2}
        first = (await client.get("/jobs", params=params)).json()
        second = (await client.get("/jobs", params={**params, "cursor": first["next_cursor"]})).json()
        return [job["id"] for page in (first, second) for job in page["data"]], first["next_cursor"]

    seen, cursor = asked(service, walk)
    assert seen == ids[::-1]
    for params in ({}, {"tag": "sku:8"}, {"tag": "sku:7", "status": "pending"}):
        assert call(service, "GET", "/jobs", params={**params, "cursor": cursor}).json()["code"] == "invalid_cursor"


@ON_SQLITE
@pytest.mark.parametrize(
    ("params", "code", "pointer"),
    [
        ({"tag": "sku"}, "invalid_parameter", "#/query/tag"),
        ({"tag": "a b:1"}, "invalid_tags", "#/query/tag"),
        ({"external_id": "\0"}, "invalid_parameter", "#/query/external_id"),
        ({"filename": "\0"}, "invalid_parameter", "#/query/filename"),
        ({"created_after": "yesterday"}, "invalid_parameter", "#/query/created_after"),
        ({"tags": "sku:7"}, "unknown_parameter", "#/query/tags"),
    ],
)
def test_a_filter_that_nothing_can_have_is_refused(
    service: Service, params: dict[str, str], code: str, pointer: str
) -> None:
    answer = call(service, "GET", "/jobs", params=params)
    assert (answer.status_code, answer.json()["code"], answer.json()["errors"][0]["pointer"]) == (422, code, pointer)


ROWS = 4000
#: by filter: the index that has its rows
INDEXES = {
    "ix_job_tags_tenant_name_value_job_id": JobFilters(tag=("sku", "7")),
    "ix_jobs_external_id": JobFilters(external_id="order-7"),
    "ix_jobs_filename": JobFilters(filename="7.png"),
    "ix_jobs_tenant_status_id": JobFilters(status="failed"),  # type: ignore[arg-type]
}


@pytest.mark.integration
@ON_POSTGRESQL
def test_every_filter_finds_its_rows_by_an_index(database: Database) -> None:
    accept(database, ["convert_png"])
    now = datetime.now(UTC)
    with database.session() as session:
        template = session.execute(select(*Job.__table__.columns)).mappings().one()
        ids = [uuid7() for _ in range(ROWS)]
        rows = [
            {
                **template,
                "id": job_id,
                "external_id": f"order-{number}",
                "input_filename": f"{number}.png",
                "status": "failed" if number % 500 == 0 else "completed",
                "created_at": now,
            }
            for number, job_id in enumerate(ids)
        ]
        session.execute(insert(Job.__table__), rows)
        tags = [
            {"job_id": job_id, "tenant": DEFAULT_TENANT, "name": "sku", "value": str(number % 500)}
            for number, job_id in enumerate(ids)
        ]
        session.execute(insert(JobTag.__table__), tags)
        for table in ("jobs", "job_tags"):
            session.execute(text(f"ANALYZE {table}"))
    # the id begins with the time: with a single tenant its own index is as good as that of tenant and id
    recent = JobFilters(created_after=now + timedelta(days=1))
    with database.session(tenant=DEFAULT_TENANT) as session:
        for index, filters in {**INDEXES, "_jobs": recent}.items():
            plan = explained(session, filters)
            assert re.search(rf"Index.* \w*{index}", plan), f"{filters}\n{plan}"
            assert "Seq Scan" not in plan, f"{filters}\n{plan}"


def explained(session: Any, filters: JobFilters) -> str:
    """How PostgreSQL would find the first page: with the condition of the tenant, which the session adds."""
    statement = jobs.listing(filters).limit(21).where(Job.tenant == DEFAULT_TENANT)
    if filters.tag:
        statement = statement.where(JobTag.tenant == DEFAULT_TENANT)
    compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    return "\n".join(row[0] for row in session.connection().exec_driver_sql(f"EXPLAIN {compiled}".replace("%", "%%")))


# -- what has expired --------------------------------------------------------------------------------------------------

WAYS = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("GET", "/archive"),
    ("GET", "/results/x"),
]


def test_what_has_expired_is_gone_with_the_date_for_its_owner_alone(
    service: Service, database: Database, ann: Belongings, bob: Belongings, tmp_path: Path
) -> None:
    change(database, update(Job).where(Job.id == ann.job).values(expires_at=from_now(-5), external_id="order-1"))
    at = job_of(database, ann.job).expires_at
    expire(database, tmp_path / "objects")
    for method, path in WAYS:
        own = call(service, method, f"/jobs/{ann.job}{path}", ann.key)
        assert (own.status_code, own.json()["code"]) == (410, "job_expired"), (method, path)
        assert datetime.fromisoformat(own.json()["expired_at"]) == at
        other = call(service, method, f"/jobs/{ann.job}{path}", bob.key)
        assert (other.status_code, other.json()["code"]) == (404, "job_not_found"), (method, path)
    accepted(service, ann.key, external_id="order-1")
    expire(database, tmp_path / "objects", tombstones_kept_seconds=4)
    assert call(service, "GET", f"/jobs/{ann.job}", ann.key).status_code == 404


@ON_SQLITE
def test_what_its_owner_has_deleted_was_never_there(service: Service, database: Database, ann: Belongings) -> None:
    assert call(service, "DELETE", f"/jobs/{ann.job}", ann.key).status_code == 204
    assert call(service, "GET", f"/jobs/{ann.job}", ann.key).status_code == 404
    with database.session(read_only=True) as session:
        assert session.scalars(select(JobTombstone).where(JobTombstone.job_id == ann.job)).all() == []


def test_each_job_expires_in_its_own_time(database: Database, tmp_path: Path) -> None:
    short, long, running = (accept(database, ["convert_png"], kept_seconds=s) for s in (0, 600, 0))
    for job_id in (short, long):
        run_task(database, job_id, "0")
    change(database, update(Job).where(Job.id == running).values(expires_at=from_now(-60)))
    expire(database, tmp_path / "objects")
    with database.session(read_only=True) as session:
        assert set(session.scalars(select(Job.id))) == {long, running}
