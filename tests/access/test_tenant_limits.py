"""What a tenant may have: exact however many ask at once, in two statements, and without a counter that could drift."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from app.config import Settings
from app.database import Database
from app.errors import (
    DailyLimitReached,
    InvalidLimit,
    PixToolsError,
    StorageLimitReached,
    TenantLimit,
    TenantNotFound,
    TooManyOpenJobs,
)
from app.models import Job, TenantRecord
from app.services import jobs
from app.services.access import limits, storage, tenants
from app.services.access.limits import TenantLimits
from tests.support.deployment import ApiClient, embedded, run_bare
from tests.support.receiver import hang, receiving
from tests.support.work import ON_POSTGRESQL, accept, change, claimed, fail, in_parallel, run_task, today

ONE: list[Any] = ["convert_png"]
PIXELS = 640 * 480
MANY = TenantLimits(
    requests_per_minute=1000,
    max_open_jobs=1000,
    max_bytes_per_day=10**12,
    max_pixels_per_day=10**12,
    max_storage_bytes=10**12,
)


@pytest.fixture(autouse=True)
def _unused_tenants(request: pytest.FixtureRequest) -> Iterator[None]:
    database = request.getfixturevalue("database") if "database" in request.fixturenames else None
    yield
    if database is not None:
        fresh = {"counted_on": None, "bytes_today": 0, "pixels_today": 0, "stored_bytes": 0, "max_open_jobs": None}
        change(database, update(TenantRecord).values(**fresh))


def within(**own: int) -> TenantLimits:
    return replace(MANY, **own)


def tenant(database: Database, name: str = "default") -> TenantRecord:
    with database.session(read_only=True) as session:
        return tenants.get(session, name)


def set_today(database: Database, **values: Any) -> None:
    change(database, update(TenantRecord).values(**values))


def refused(database: Database, own: TenantLimits, content: bytes = b"", **more: Any) -> PixToolsError:
    with pytest.raises(TenantLimit) as error:
        accept(database, ONE, limits=own, content=content, **more)
    return error.value


@contextmanager
def statements() -> Iterator[list[str]]:
    """What all engines execute meanwhile."""
    from sqlalchemy import Engine

    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_as_many_jobs_as_may_be_are_in_flight_and_each_end_makes_room(database: Database) -> None:
    own = within(max_open_jobs=2)
    first = accept(database, ONE, limits=own)
    accept(database, ONE, limits=own)
    error = refused(database, own)
    assert (error.status, error.code, error.limit, error.value) == (429, "too_many_open_jobs", 2, 3)
    assert error.retry_after
    run_task(database, first, "0")
    accept(database, ONE, limits=own)
    assert isinstance(refused(database, own), TooManyOpenJobs)


def test_other_tenants_do_not_count(database: Database) -> None:
    own = within(max_open_jobs=1, max_bytes_per_day=10, max_storage_bytes=10)
    with database.session() as session:
        tenants.create(session, "other")
    accept(database, ONE, limits=own, content=b"x" * 10)
    refused(database, own)
    accept(database, ONE, limits=own, content=b"x" * 10, tenant="other")
    assert tenant(database, "other").bytes_today == 10


def test_a_limit_of_its_own_comes_before_that_of_all(database: Database) -> None:
    with database.session() as session:
        limits.change(session, tenants.get(session, "default"), {"max_open_jobs": 1})
    accept(database, ONE, limits=MANY)
    assert refused(database, MANY).limit == 1
    with database.session() as session:
        limits.change(session, tenants.get(session, "default"), {"max_open_jobs": None})
    accept(database, ONE, limits=MANY)


def test_of_many_that_ask_at_once_exactly_as_many_are_accepted_as_there_is_room_for(database: Database) -> None:
    own, callers = within(max_open_jobs=7, max_bytes_per_day=70), 24

    def ask() -> bool:
        try:
            accept(database, ONE, limits=own, content=b"0123456789")
        except TooManyOpenJobs:
            return True
        except DailyLimitReached:
            pytest.fail("what was refused has been counted")
        return False

    refusals = in_parallel([ask] * callers)
    assert sum(refusals) == callers - 7
    with database.session(read_only=True) as session:
        assert len(session.scalars(select(Job.id)).all()) == 7
    assert tenant(database).bytes_today == 70


@ON_POSTGRESQL
def test_an_end_and_other_tenants_wait_for_no_accepting_transaction(database: Database) -> None:
    job_id = accept(database, ONE, limits=MANY)
    with database.session() as session:
        tenants.create(session, "other")
    with database.session() as session:
        limits.admit(session, "default", MANY, limits.Load(bytes=1))
        for done in (
            lambda: run_task(database, job_id, "0"),
            lambda: accept(database, ONE, limits=MANY, tenant="other"),
        ):
            thread = threading.Thread(target=done)
            thread.start()
            thread.join(9)  # a wait for a row would take ten
            assert not thread.is_alive()


def test_a_job_that_is_retried_is_in_flight_again(database: Database) -> None:
    own = within(max_open_jobs=1)
    job_id = accept(database, ONE, limits=own)
    fail(database, claimed(database, job_id, "0"))
    other = accept(database, ONE, limits=own)
    with pytest.raises(TooManyOpenJobs), database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60, limits=own)
    run_task(database, other, "0")
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60, limits=own)
    refused(database, own)


def test_bytes_and_pixels_of_a_day_are_counted_once_and_begin_anew(database: Database) -> None:
    own = within(max_bytes_per_day=25)
    accept(database, ONE, limits=own, content=b"x" * 10)
    accept(database, ONE, limits=own, content=b"x" * 10)
    error = refused(database, own, b"x" * 10)
    assert (error.status, error.code, error.limit) == (429, "daily_limit_reached", 25)
    assert error.extra == {"limit_name": "max_bytes_per_day"}
    assert 0 < (error.retry_after or 0) <= 86_400
    assert error.headers["RateLimit"] == f'"bytes-per-day";r=5;t={error.retry_after}'
    assert error.headers["RateLimit-Policy"] == '"bytes-per-day";q=25;qu="content-bytes";w=86400'
    assert (tenant(database).bytes_today, tenant(database).pixels_today) == (20, 2 * PIXELS), "nothing of the refused"
    accept(database, ONE, limits=own, content=b"x" * 5)
    error = refused(database, within(max_pixels_per_day=4 * PIXELS - 1))
    assert (error.code, error.extra) == ("daily_limit_reached", {"limit_name": "max_pixels_per_day"})
    set_today(database, counted_on=today() - timedelta(days=1))
    accept(database, ONE, limits=own, content=b"x" * 25)
    assert (tenant(database).counted_on, tenant(database).bytes_today) == (today(), 25)


def test_a_process_whose_clock_is_behind_does_not_begin_the_day_again(database: Database) -> None:
    set_today(database, counted_on=today() + timedelta(days=1), bytes_today=20)
    refused(database, within(max_bytes_per_day=25), b"x" * 10)
    accept(database, ONE, limits=within(max_bytes_per_day=25), content=b"x" * 5)
    assert (tenant(database).counted_on, tenant(database).bytes_today) == (today() + timedelta(days=1), 25)


def test_storage_is_refused_with_403_until_something_is_deleted(database: Database) -> None:
    own = within(max_storage_bytes=25)
    job_id = accept(database, ONE, limits=own, content=b"x" * 20)
    error = refused(database, own, b"x" * 10)
    assert isinstance(error, StorageLimitReached)
    assert (error.status, error.code, error.limit, error.value) == (403, "storage_limit_reached", 25, 30)
    with database.session() as session:
        jobs.stop(session, job_id)
        assert jobs.remove(session, job_id)
    storage.measure(database)
    accept(database, ONE, limits=own, content=b"x" * 10)


def test_measuring_finds_uploads_and_results_and_loses_nothing_that_comes_meanwhile(database: Database) -> None:
    job_id = accept(database, ONE, content=b"x" * 20)
    run_task(database, job_id, "0")  # a result of one byte
    with database.session() as session:
        tenants.create(session, "idle")
    with database.session(read_only=True) as session:
        drift = storage._drift(session)
    assert drift == {"default": 21}
    accept(database, ONE, limits=MANY, content=b"x" * 5)
    with database.session() as session:
        storage._correct(session, "default", drift["default"])
    assert tenant(database).stored_bytes == 26
    storage.measure(database)
    assert tenant(database).stored_bytes == 26


def test_one_process_in_a_while_measures(database: Database) -> None:
    def ask() -> bool:
        with database.session() as session:
            return storage.is_due(session, 300)

    with database.session() as session:
        storage.is_due(session, -1)
    assert not any(in_parallel([ask] * 4))
    with database.session() as session:
        assert storage.is_due(session, 0)


def test_accepting_pays_two_statements_and_an_end_none(database: Database) -> None:
    accept(database, ONE)
    with statements() as without:
        accept(database, ONE)
    with statements() as with_limits:
        job_id = accept(database, ONE, limits=MANY)
    assert len(with_limits) - len(without) == 2
    with statements() as ending:
        run_task(database, job_id, "0")
    assert not [statement for statement in ending if "tenants" in statement.replace("tenant_turns", "")]


def test_a_tenant_that_is_being_erased_gets_nothing_more(database: Database) -> None:
    with database.session() as session:
        tenants.create(session, "leaving")
        session.execute(update(TenantRecord).where(TenantRecord.name == "leaving").values(deleted_at=datetime.now(UTC)))
    with pytest.raises(TenantNotFound):
        accept(database, ONE, limits=MANY, tenant="leaving")


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_a_limit_that_lets_nothing_through_or_does_not_fit_is_refused(database: Database, value: int) -> None:
    with database.session() as session:
        record = tenants.get(session, "default")
        with pytest.raises(InvalidLimit, match="max_open_jobs is a whole number from 1"):
            limits.change(session, record, {"max_open_jobs": value})


def test_by_default_a_tenant_has_half_of_all_jobs() -> None:
    assert Settings(max_open_jobs=20_000).open_jobs_of_tenant == 10_000
    assert Settings(max_open_jobs=1).open_jobs_of_tenant == 1
    assert Settings(max_open_jobs=100, tenant_max_open_jobs=70).open_jobs_of_tenant == 70


def test_the_api_refuses_with_codes_of_their_own(tmp_path: Path, photo: bytes) -> None:
    tight = {
        "PIXTOOLS_TENANT_REQUESTS_PER_MINUTE": "12",
        "PIXTOOLS_TENANT_MAX_BYTES_PER_DAY": str(2 * len(photo) + 1),
    }
    running = embedded(tmp_path, **tight)
    running.start()
    try:
        with running.client() as client:
            _accepts_until_told(client, photo, running.folder)
    finally:
        running.stop()


def _accepts_until_told(client: ApiClient, photo: bytes, folder: Path) -> None:
    first = client.process(photo, ["flip"], headers={"Idempotency-Key": "same"})
    assert first.status_code == 202
    assert first.headers["ratelimit-policy"] == '"requests";q=12;w=60'
    assert first.headers["ratelimit"].startswith('"requests";r=11;t=')
    second = client.process(photo, ["flip"])
    assert second.status_code == 202
    repeated = client.process(photo, ["flip"], headers={"Idempotency-Key": "same"})
    assert (repeated.status_code, repeated.headers["idempotent-replayed"]) == (202, "true"), "a repeat costs nothing"
    daily = client.process(photo, ["flip"])
    assert (daily.status_code, daily.json()["code"]) == (429, "daily_limit_reached")
    assert daily.json()["limit_name"] == "max_bytes_per_day"
    assert '"bytes-per-day"' in daily.headers["ratelimit"]
    assert '"requests"' in daily.headers["ratelimit"]
    assert set_limits(folder, "--max-bytes-per-day", "1000000", "--max-storage-bytes", "1").returncode == 0
    stored = client.process(photo, ["flip"])
    assert (stored.status_code, stored.json()["code"]) == (403, "storage_limit_reached")
    assert "retry-after" not in stored.headers
    assert set_limits(folder, "--max-storage-bytes", "default", "--max-open-jobs", "1").returncode == 0
    for job in (first.json(), second.json()):  # one request each
        assert client.http.get(f"/jobs/{job['id']}", headers={"Prefer": "wait=60"}).json()["status"] == "completed"
    with receiving(hang) as site:  # a job that stays open
        source = {"input": {"url": f"{site.origin}/a.jpg"}, "operations": ["flip"]}
        assert client.http.post("/process", json=source).status_code == 202
        for upload in (photo, b"not even an image: what is too much anyway is not read"):
            full = client.process(upload, ["flip"])
            assert (full.status_code, full.json()["code"], full.json()["limit"]) == (429, "too_many_open_jobs", 1)
    began = time.monotonic()
    for asked in count(1):
        rate = client.http.get("/jobs")
        if rate.is_error:
            break
        assert asked <= 12 + (time.monotonic() - began) / 5, "twelve at once, and one each five seconds"
    assert (rate.status_code, rate.json()["code"]) == (429, "rate_limited")
    assert rate.headers["ratelimit"].startswith('"requests";r=0;t=')
    assert 1 <= int(rate.headers["retry-after"]) <= 5
    assert client.http.get("/health/live").status_code == 200, "what needs no key is not counted"
    shown = client.http.get("/metrics", headers={"Accept": "text/plain"})
    assert shown.status_code in {200, 429}


def set_limits(folder: Path, *options: str) -> Any:
    return run_bare(folder, "app", "tenants", "set", "default", *options)
