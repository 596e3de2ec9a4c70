"""The audit log: written with what it records, never changed, and read by its tenant."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DatabaseError

from app.database import Database
from app.models import AuditEntry, Scope
from app.services.access import audit
from app.services.access.audit import Audited
from app.services.access.principal import Principal
from app.services.upkeep.refusals import Refusals
from tests.support.deployment import ApiClient
from tests.support.work import change, crash_after, in_parallel

KEY = Principal(tenant="default", key_id="abc", scopes=frozenset(Scope))


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> Iterator[None]:
    database = request.getfixturevalue("database") if "database" in request.fixturenames else None
    yield
    if database is not None:
        change(database, delete(AuditEntry))


def entries(database: Database, **wanted: Any) -> list[AuditEntry]:
    given = {"since": None, "until": None, "after": "", "tenant": None, **wanted}
    with database.session(read_only=True) as session:
        return audit.page(session, **given)


def record(database: Database, action: str = "key.created", **more: Any) -> None:
    with database.session() as session:
        audit.record(session, action, "subject", **{"tenant": "default", **more})


def test_an_entry_is_there_when_what_it_tells_has_happened_and_not_before(database: Database) -> None:
    made = Audited(principal=KEY, action="thing.made", subject=lambda outcome: outcome, details=lambda _: {"n": 1})
    crash_after(database, lambda session: made(session, lambda _: "one"))
    assert entries(database) == []
    with database.session() as session:
        assert made(session, lambda _: "two") == "two"
    (entry,) = entries(database)
    shown = audit.line(entry)
    at = datetime.fromisoformat(shown["at"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert {name: shown[name] for name in ("tenant", "actor", "action", "subject", "details")} == {
        "tenant": "default",
        "actor": "abc",
        "action": "thing.made",
        "subject": "two",
        "details": {"n": 1},
    }


def test_what_has_done_nothing_leaves_no_entry(database: Database) -> None:
    gone = Audited(principal=KEY, action="thing.deleted", subject=lambda outcome: outcome)
    with database.session() as session:
        gone(session, lambda _: None)
    assert entries(database) == []


def test_the_database_lets_nobody_change_an_entry(database: Database) -> None:
    record(database)
    for statement in (update(AuditEntry).values(actor="another"), text("UPDATE audit SET subject = 'x'")):
        with pytest.raises(DatabaseError, match="never changed"), database.session() as session:
            session.execute(statement)
    assert entries(database)[0].actor == audit.OPERATOR


def test_pages_go_on_behind_each_other_and_know_times_and_tenants(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    for action in ("a", "b", "c"):
        record(database, action)
    record(database, "d", tenant="other")
    first = entries(database, tenant="default")
    rest = entries(database, tenant="default", after=first[-1].id)
    assert [entry.action for entry in (*first, *rest)] == ["a", "b", "c"]
    assert [entry.action for entry in entries(database, tenant="other")] == ["d"]
    assert entries(database, since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(entries(database, until=datetime.now(UTC) + timedelta(hours=1))) == 2


def test_refusals_are_written_beside_the_requests_once_a_key_code_and_minute(database: Database) -> None:
    clock = [6000.0]
    processes = [Refusals(database, clock=lambda: clock[0]) for _ in range(2)]
    for refusals in processes:
        for code in ("missing_scope", "rate_limited", "missing_scope"):
            refusals.note(tenant="default", key_id="abc", code=code)
    assert entries(database) == [], "no request waits for it"
    in_parallel([refusals.run_once for refusals in processes])
    clock[0] += 59
    processes[0].note(tenant="default", key_id="abc", code="missing_scope")
    assert processes[0].run_once() == 0
    clock[0] += 1
    processes[0].note(tenant="default", key_id="abc", code="missing_scope")
    processes[0].note(tenant="default", key_id="xyz", code="missing_scope")
    processes[0].run_once()
    shown = [(entry.actor, entry.subject, entry.at.timestamp()) for entry in entries(database)]
    assert sorted(shown) == [
        ("abc", "missing_scope", 6000.0),
        ("abc", "missing_scope", 6060.0),
        ("abc", "rate_limited", 6000.0),
        ("xyz", "missing_scope", 6060.0),
    ]
    assert {entry.action for entry in entries(database)} == {audit.REFUSED}


def test_what_could_not_be_written_is_written_later_and_at_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(database)
    refusals.note(tenant="default", key_id="abc", code="missing_scope")
    with monkeypatch.context() as broken:
        broken.setattr(audit, "note_refusals", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refusals.run_once()
    refusals.start()
    refusals.stop()
    assert len(entries(database)) == 1


def test_old_entries_are_forgotten(database: Database) -> None:
    record(database)
    with database.session() as session:
        assert audit.remove_old(session, 60) == 0
        assert audit.remove_old(session, -60) == 1
    assert entries(database) == []


def test_endpoints_and_deletions_are_in_the_log_of_the_api(api: ApiClient, photo: bytes) -> None:
    began = datetime.now(UTC)
    made = api.http.post("/webhooks", json={"url": "http://127.0.0.1:1/?token=secret", "events": ["job.failed"]}).json()
    path = f"/webhooks/{made['id']}"
    assert api.http.patch(path, json={"description": "changed"}).is_success
    rotated = api.http.post(f"{path}/rotate").json()["secret"]
    for _ in range(2):
        api.http.delete(path)
    job = api.run(photo, ["flip"])
    for _ in range(2):
        api.http.delete(f"/jobs/{job['id']}")
    answer = api.http.get("/audit", params={"since": began.isoformat()})
    assert answer.headers["content-type"] == "application/jsonl"
    shown = [json.loads(line) for line in answer.text.splitlines()]
    mine = [(line["action"], line["subject"]) for line in shown if line["subject"] in {made["id"], job["id"]}]
    assert mine == [
        ("endpoint.created", made["id"]),
        ("endpoint.changed", made["id"]),
        ("endpoint.secret_rotated", made["id"]),
        ("endpoint.deleted", made["id"]),
        ("job.deleted", job["id"]),
    ]
    assert {line["actor"] for line in shown} == {"open"}
    for secret in (made["secret"], rotated, "token=secret"):
        assert secret not in answer.text
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert api.http.get("/audit", params={"since": later}).text == ""
    assert api.http.get("/audit", params={"since": "yesterday"}).status_code == 422


def test_usage_is_told_by_the_api(api: ApiClient) -> None:
    answer = api.http.get("/usage")
    assert answer.status_code == 200
    page = answer.json()
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert api.http.get("/usage", params={"since": "2026-02-01", "until": "2026-01-01"}).status_code == 422
    assert api.http.get("/usage", params={"cursor": "no cursor"}).status_code == 400
    assert api.http.get("/usage", params={"tenant": "absent"}).json()["data"] == []
    assert api.http.get("/usage", params={"tenant": "NO NAME"}).status_code == 422
