"""Migrations change a database that is in use: its rows stay, and the processes of before go on working."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from app.database import Database
from app.migrations import state, upgrade
from tests.support.servers import PostgreSQL

NOW = "2026-11-28 12:00:00.000000"
JOB = uuid4().hex
#: one row of each table that the migrations change, as the version before wrote them
ROWS: dict[str, dict[str, Any]] = {
    "jobs": {
        "id": JOB,
        "status": "completed",
        "created_at": NOW,
        "expires_at": NOW,
        "dispatched_at": NOW,
        "run": 1,
        "operations": '["convert_png"]',
        "plan": "{}",
        "base_url": "http://127.0.0.1",
        "input_key": "key",
        "input_filename": "photo.jpg",
        "input_format": "jpeg",
        "input_width": 8,
        "input_height": 8,
        "input_frames": 1,
        "input_bytes": 100,
        "input_sha256": "0" * 64,
    },
    "job_steps": {
        "job_id": JOB,
        "id": "0",
        "position": 0,
        "op": "convert_png",
        "task": "0",
        "queue": "default_queue",
        "status": "succeeded",
        "attempts": 1,
    },
    "job_results": {
        "job_id": JOB,
        "step_id": "0",
        "position": 0,
        "name": "convert_png",
        "key": "result",
        "filename": "photo.png",
        "format": "png",
        "content_type": "image/png",
        "width": 8,
        "height": 8,
        "bytes": 90,
        "sha256": "1" * 64,
    },
    "events": {
        "id": "msg_1",
        "position": 1,
        "type": "job.completed",
        "job_id": JOB,
        "run": 1,
        "created_at": NOW,
        "data": "{}",
    },
    "webhook_endpoints": {
        "id": "ep_1",
        "url": "http://127.0.0.1",
        "description": "",
        "events": "[]",
        "enabled": True,
        "created_at": NOW,
    },
    "deliveries": {
        "id": "dlv_1",
        "event_id": "msg_1",
        "endpoint_id": "ep_1",
        "url": "http://127.0.0.1",
        "status": "delivered",
        "attempts": 1,
        "attempts_before": 0,
        "postponements": 0,
        "created_at": NOW,
        "next_attempt_at": NOW,
        "dispatched_at": NOW,
    },
}
#: of tables that came between, as the version before the tenants wrote them
ROWS_BEFORE_TENANTS: dict[str, dict[str, Any]] = {
    "idempotency_keys": {
        "caller": "anonymous",
        "key": "k",
        "fingerprint": "f",
        "job_id": JOB,
        "response": "{}",
        "expires_at": NOW,
    },
    "dead_letters": {
        "id": "letter",
        "created_at": NOW,
        "reason": "poison_input",
        "queue": "default_queue",
        "task": "task",
        "args": "[]",
        "operations": "[]",
        "message": "",
    },
}
BEFORE = "0007"
BEFORE_TENANTS = "0011"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the version before, with rows."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/pixtools.db"
    else:
        servers: PostgreSQL = request.getfixturevalue("postgresql")
        url = servers.create_database(f"old_rows_{uuid4().hex[:8]}")
    upgrade(url, BEFORE)
    database = Database(url)
    for table, row in ROWS.items():
        _write(database, table, row)
    yield database
    database.close()


def _write(database: Database, table: str, row: dict[str, Any]) -> None:
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with database.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)


def _rows(database: Database, table: str) -> list[dict[str, Any]]:
    with database.engine.begin() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]


def _upgrade(database: Database, revision: str = "head") -> None:
    upgrade(database._url.render_as_string(hide_password=False), revision)


def test_rows_of_before_stay_with_all_that_refers_to_them(old: Database) -> None:
    before = {table: _rows(old, table) for table in ROWS}
    old.close()
    _upgrade(old)
    for table, rows in before.items():
        [row] = _rows(old, table)
        assert rows[0].items() <= row.items(), table
    [job] = _rows(old, "jobs")
    assert (job["tenant"], job["priority"]) == ("default", 5)
    with old.engine.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))
    assert _rows(old, "job_results") == [], "keys that refer to a table still do"


def test_processes_of_before_go_on_writing(old: Database) -> None:
    _upgrade(old)
    job = uuid4().hex
    _write(old, "jobs", ROWS["jobs"] | {"id": job})
    _write(old, "job_steps", ROWS["job_steps"] | {"job_id": job})
    _write(old, "job_results", ROWS["job_results"] | {"job_id": job})
    _write(old, "events", ROWS["events"] | {"id": "msg_2", "position": None, "job_id": job})
    _write(old, "deliveries", ROWS["deliveries"] | {"id": "dlv_2", "event_id": "msg_2"})
    assert {row["tenant"] for table in ("jobs", "events", "deliveries") for row in _rows(old, table)} == {"default"}


def test_a_step_may_give_several_results_and_an_input_may_be_unknown(old: Database) -> None:
    _upgrade(old)
    manifest = {"name": "hero.manifest.json", "key": "other", "width": None, "height": None}
    _write(old, "job_results", ROWS["job_results"] | manifest)
    facts = [name for name in ROWS["jobs"] if name.startswith("input_") and name not in {"input_key", "input_filename"}]
    _write(old, "jobs", ROWS["jobs"] | {"id": uuid4().hex} | dict.fromkeys(facts))
    _write(old, "events", ROWS["events"] | {"id": "msg_2", "position": 2, "type": "job.started"})


def test_what_there_was_before_tenants_belongs_to_the_first_one(old: Database) -> None:
    _upgrade(old, BEFORE_TENANTS)
    for table, row in ROWS_BEFORE_TENANTS.items():
        _write(old, table, row)
    sent_twice = {"caller": "0" * 64, "expires_at": "2026-11-28 13:00:00.000000"}
    _write(old, "idempotency_keys", ROWS_BEFORE_TENANTS["idempotency_keys"] | sent_twice)
    old.close()
    _upgrade(old)
    for table in ROWS_BEFORE_TENANTS:
        assert [row["tenant"] for row in _rows(old, table)] == ["default"], table
    [key] = _rows(old, "idempotency_keys")
    assert key["caller"] == "0" * 64, "of two callers that have become one, the key that was used last stays"
    assert [row["name"] for row in _rows(old, "tenants")] == ["default"]
    assert {row["name"]: row["value"] for row in _rows(old, "counters")}["api_keys"] == 0
    with pytest.raises(IntegrityError):  # also where a process of the version before writes it
        _write(old, "idempotency_keys", ROWS_BEFORE_TENANTS["idempotency_keys"])
    _write(old, "idempotency_keys", ROWS_BEFORE_TENANTS["idempotency_keys"] | {"key": "other"})


def test_indexes_are_for_the_rows_that_they_are_asked_for(old: Database) -> None:
    _upgrade(old)
    where = f"{'sqlite' if old.is_sqlite else 'postgresql'}_where"
    with old.engine.connect() as connection:
        found = {
            index["name"]: str(index["dialect_options"][where])
            for table in inspect(connection).get_table_names()
            for index in inspect(connection).get_indexes(table)
            if where in index.get("dialect_options", {})
        }
    assert "webhook.test" in found["ix_events_unlogged"]
    assert "external_id IS NOT NULL" in found["ix_jobs_external_id"]
    kept = {"ix_deliveries_due", "ix_deliveries_leased", "ix_webhook_replays_unfinished"}
    assert kept <= set(found), "also where a table was made anew"


@pytest.mark.integration
@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_what_an_interrupted_migration_has_left_is_made_anew(old: Database) -> None:
    with old.engine.begin() as connection:
        connection.execute(text("CREATE INDEX ix_deliveries_tenant_id ON deliveries (url)"))
    _upgrade(old)
    with old.engine.connect() as connection:
        [index] = [one for one in inspect(connection).get_indexes("deliveries") if one["name"].endswith("_tenant_id")]
    assert index["column_names"] == ["tenant", "id"]


@pytest.mark.integration
@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_rows_are_written_while_indexes_are_made(old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that has begun holds an index up, and neither it nor another one is held up by that."""
    monkeypatch.setattr("app.migrations.LOCK_TIMEOUT", "1s")
    url = old._url.render_as_string(hide_password=False)
    upgrade(url, "0008")
    migrating = threading.Thread(target=upgrade, args=(url,), daemon=True)
    with old.engine.connect() as first, old.engine.connect() as second:
        first.execute(text("UPDATE jobs SET run = 2"))
        migrating.start()
        migrating.join(2)
        assert migrating.is_alive(), "it waits for longer than it would for a lock"
        for table in ("job_results", "events"):
            second.execute(text(f"UPDATE {table} SET position = 7"))
        second.commit()
        first.execute(text("UPDATE job_steps SET attempts = 2"))
        first.commit()
    migrating.join(60)
    assert not migrating.is_alive()
    here, head = state(url)
    assert here == head
