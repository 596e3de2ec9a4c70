"""What is kept, and for how long: expired jobs, orphans, keys, letters; on both kinds of database."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from uuid_utils.compat import uuid7

from app import metrics
from app.backoff import Backoff
from app.database import Database, from_now
from app.errors import StoreUnavailable
from app.models import (
    DeadLetter,
    IdempotencyKey,
    Job,
    OutboxMessage,
)
from app.services import jobs
from app.services.storage.keys import input_key, job_prefix, result_key
from app.services.storage.local import LocalFolder
from app.services.upkeep import retention
from app.services.upkeep.retention import Retention, find_orphans
from tests.support.dead_letters import letters, poisoned, received
from tests.support.work import (
    ON_POSTGRESQL,
    accept,
    change,
    run_task,
)

# -- retention ---------------------------------------------------------------------------------------------------------


def store(storage: LocalFolder, key: str, folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    storage.upload_processed(key, folder / "file", content_type="image/png")


def keys(storage: LocalFolder) -> set[str]:
    return {key for key, _ in storage.entries("jobs/")}


def ended_job(database: Database) -> UUID:
    job_id = accept(database, ["convert_png"])
    with database.session() as session:
        jobs.cancel(session, job_id)
    return job_id


def cleaner(database: Database, storage: LocalFolder) -> Retention:
    kept = {"letters_kept_seconds": 60, "events_kept_seconds": 60, "audit_kept_seconds": 60}
    return Retention(database, storage, every_seconds=60, **kept)


def test_expired_jobs_go_with_their_objects_and_others_stay(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    old, kept, running = [ended_job(database) for _ in range(5)], ended_job(database), accept(database)
    for job_id in [*old, kept, running]:
        store(storage, input_key(job_id), tmp_path)
    change(database, update(Job).where(Job.id.in_([*old, running])).values(expires_at=from_now(-1)))
    assert cleaner(database, storage).run_once() == 5
    assert keys(storage) == {input_key(kept), input_key(running)}
    with database.session(read_only=True) as session:
        assert set(session.scalars(select(Job.id))) == {kept, running}


class Stubborn(LocalFolder):
    """A storage that does not delete what lies below some prefixes, as one with a legal hold does."""

    held: tuple[str, ...] = ()

    async def delete_prefix(self, prefix: str) -> int:
        if prefix.startswith(self.held):
            raise StoreUnavailable
        return await super().delete_prefix(prefix)


def test_what_cannot_be_deleted_holds_up_nothing_else(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "PAUSES", Backoff(first=600, longest=3600))
    storage = Stubborn(tmp_path / "objects")
    old = [ended_job(database) for _ in range(9)]
    for number, job_id in enumerate(old):
        store(storage, input_key(job_id), tmp_path)
        change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(number - 100)))
    held = old[:2]  # the oldest: what every turn would begin with
    storage.held = tuple(job_prefix(job_id) for job_id in held)
    cleaning = cleaner(database, storage)
    failures = metrics.RETENTION_FAILURES._value.get()
    assert cleaning.run_once() == 7
    assert metrics.RETENTION_FAILURES._value.get() == failures + 2
    assert keys(storage) == {input_key(job_id) for job_id in held}
    assert cleaning.run_once() == 0
    assert metrics.RETENTION_FAILURES._value.get() == failures + 2, "they are passed over for a while"
    storage.held = ()
    waiting = cleaning._postponed._until
    waiting |= {job_id: (until - 600, failed) for job_id, (until, failed) in waiting.items()}
    assert cleaning.run_once() == 2
    assert keys(storage) == set()


def test_a_storage_that_deletes_nothing_does_not_keep_keys_and_letters(database: Database, tmp_path: Path) -> None:
    storage = Stubborn(tmp_path / "objects")
    storage.held = ("jobs/",)
    job_id, other = ended_job(database), ended_job(database)
    change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(-1)))
    with database.session() as session:
        session.add(
            IdempotencyKey(
                tenant="c", caller="c", key="k", fingerprint="f", job_id=other, response={}, expires_at=from_now(-1)
            )
        )
    assert cleaner(database, storage).run_once() == 0
    with database.session(read_only=True) as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == []


def test_expired_idempotency_keys_go(database: Database, storage: LocalFolder) -> None:
    job_id = ended_job(database)
    with database.session() as session:
        for name, seconds in (("old", -1), ("new", 60)):
            session.add(
                IdempotencyKey(
                    tenant="c",
                    caller="c",
                    key=name,
                    fingerprint="f",
                    job_id=job_id,
                    response={},
                    expires_at=from_now(seconds),
                )
            )
    cleaner(database, storage).run_once()
    with database.session(read_only=True) as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == ["new"]


def test_orphans_of_both_kinds_are_found(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 2)
    whole, torn = accept(database, ["convert_png"]), accept(database, ["convert_png"])
    for job_id in (whole, torn):
        run_task(database, job_id, "0")
    with database.session() as session:
        for job_id in (whole, torn):
            key = result_key(job_id, "0", "png")
            session.execute(update(retention.Result).where(retention.Result.job_id == job_id).values(key=key))
    store(storage, input_key(whole), tmp_path)
    store(storage, result_key(whole, "0", "png"), tmp_path)
    lost = [input_key(old_id()) for _ in range(3)] + ["jobs/no-id/input"]
    for key in [*lost, input_key(uuid7())]:  # the last one may be an upload that is being accepted
        store(storage, key, tmp_path)
    found = find_orphans(database, storage)
    assert sorted(found.objects) == sorted(lost)
    assert sorted(found.rows) == sorted([input_key(torn), result_key(torn, "0", "png")])


def old_id() -> UUID:
    """A UUIDv7 of 1970."""
    return UUID(int=uuid7().int & (1 << 80) - 1)


def test_a_job_that_is_in_use_does_not_expire(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that comes just now is not lost: the removal passes over locked rows."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    job_id = ended_job(database)
    store(storage, input_key(job_id), tmp_path)
    change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(-1)))
    remover = cleaner(database, storage)
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
        assert remover.run_once() == 0
    assert remover.run_once() == 0
    assert keys(storage) == {input_key(job_id)}


def test_old_dead_letters_go(database: Database, storage: LocalFolder) -> None:
    for id_ in ("old", "new"):
        received(database, poisoned(database), id_=id_)
    change(database, update(DeadLetter).where(DeadLetter.id == "old").values(created_at=from_now(-61)))
    cleaner(database, storage).run_once()
    assert [letter.id for letter in letters(database)] == ["new"]


# -- how it grows ------------------------------------------------------------------------------------------------------


@ON_POSTGRESQL
@pytest.mark.parametrize(
    "column", [Job.expires_at, IdempotencyKey.expires_at, DeadLetter.created_at, OutboxMessage.available_at]
)
def test_what_is_due_is_found_by_an_index_however_much_is_not(database: Database, column: Any) -> None:
    due = select(column).where(column < from_now()).compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.session() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {due}".replace(":", "\\:"))))
    assert "Index Cond" in plan, plan
