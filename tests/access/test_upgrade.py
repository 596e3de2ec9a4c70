"""A database of the version before, with work under way: nothing is lost, and all of it belongs to the first tenant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.database import Database
from app.migrations import upgrade
from app.models import Scope
from app.services import jobs
from app.services.access import keys
from app.tenancy import DEFAULT_TENANT
from tests.support.servers import PostgreSQL
from tests.support.work import accept, claimed, run_task, succeed

BEFORE = "0011"
TREE = ["convert_webp", "convert_png"]
#: what a process of the version before does not know of, and could not fill in
ADDED = {"idempotency_keys": "tenant", "dead_letters": "tenant"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/pixtools.db"
    else:
        servers: PostgreSQL = request.getfixturevalue("postgresql")
        url = servers.create_database(f"upgraded_{uuid4().hex[:8]}")
    upgrade(url, BEFORE)
    database = Database(url)
    yield database
    database.close()


#: of jobs, since then
COLUMNS = {"output": "JSON", "kept_seconds": "INTEGER"}


@contextmanager
def columns_of_now(old: Database) -> Iterator[None]:
    """Jobs are written by the models of now, which name columns that the schema of before has not."""
    with old.session() as session:
        for name, kind in COLUMNS.items():
            session.execute(text(f"ALTER TABLE jobs ADD COLUMN {name} {kind}"))
    yield
    with old.session() as session:
        for name in COLUMNS:
            session.execute(text(f"ALTER TABLE jobs DROP COLUMN {name}"))


def test_work_goes_on_over_the_upgrade_and_belongs_to_the_first_tenant(old: Database) -> None:
    with columns_of_now(old):
        waiting, running = accept(old, TREE), accept(old, TREE)
        held = claimed(old, running, "0")
    old.close()
    upgrade(old._url.render_as_string(hide_password=False))
    assert succeed(old, held), "what a worker began before ends after"
    run_task(old, running, "1")
    for task in ("0", "1"):
        run_task(old, waiting, task)
    with old.session(tenant=DEFAULT_TENANT) as session:
        for job_id in (waiting, running):
            assert jobs.get(session, job_id).status == "completed"
        assert not keys.ever_made(session), "the door is as open as it was"
        keys.create(session, keys.NewKey(tenant=DEFAULT_TENANT, scopes=frozenset({Scope.JOBS_READ})))
        assert [job.id for job in jobs.list_page(session, limit=10)[0]] == sorted((waiting, running), reverse=True)
    with old.session(tenant="another") as session:
        assert jobs.list_page(session, limit=10)[0] == []


def test_a_process_of_before_that_writes_a_key_meets_the_one_of_now(old: Database) -> None:
    """While both versions run, one Idempotency-Key has one job."""
    upgrade(old._url.render_as_string(hide_password=False))
    job = accept(old, TREE)
    write = text(
        "INSERT INTO idempotency_keys (caller, key, fingerprint, job_id, response, expires_at) "
        "VALUES (:caller, 'k', 'f', :job, '{}', '2999-01-01 00:00:00.000000') ON CONFLICT DO NOTHING"
    )

    def written(caller: str) -> int:
        with old.session() as session:
            given = {"caller": caller, "job": job.hex if old.is_sqlite else UUID(str(job))}
            return int(session.connection().execute(write, given).rowcount)

    assert [written("default"), written("anonymous")] == [1, 0]
