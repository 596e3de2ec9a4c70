"""Transactions of the service, and what a process does when one has committed."""

import asyncio
import contextvars
import gc
import logging
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.database import Database, after_commit
from app.locks import AdvisoryLock, take
from tests.support.servers import PostgreSQL
from tests.support.waiting import until
from tests.support.work import ON_POSTGRESQL

calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def note() -> None:
    calls.append("called")


def test_equal_callbacks_are_all_called_after_the_commit(database: Database) -> None:
    with database.session() as session:
        for _ in range(2):
            after_commit(session, note)
        assert calls == []
    assert calls == ["called", "called"]


def test_nothing_is_called_after_a_rollback(database: Database) -> None:
    def fail() -> None:
        with database.session() as session:
            after_commit(session, note)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        fail()
    assert calls == []


def test_a_savepoint_is_no_commit(database: Database) -> None:
    with database.session() as session:
        session.execute(select(1))
        with session.begin_nested():
            after_commit(session, note)
        assert calls == []
    assert calls == ["called"]


def test_a_callback_that_fails_does_not_make_a_committed_transaction_look_failed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("callback")

    with caplog.at_level(logging.ERROR), database.session() as session:
        after_commit(session, fail)
        after_commit(session, note)
    assert calls == ["called"]
    assert [record.message for record in caplog.records] == ["after_commit_failed"]


def test_the_connection_is_free_again_when_callbacks_run(database: Database) -> None:
    free = threading.Event()

    def write() -> None:
        with database.session() as other:  # on SQLite it would wait for the writer that calls it
            other.execute(text("DELETE FROM outbox"))
        free.set()

    with database.session() as session:
        session.execute(text("DELETE FROM outbox"))
        after_commit(session, write)
    assert free.is_set()


def test_asynchronous_transactions_call_back_too(database: Database) -> None:
    def service(session: Session) -> None:
        session.execute(select(1))
        after_commit(session, note)
        assert calls == []

    async def run() -> None:
        await database.call(service)
        await database.aclose()

    asyncio.run(run())
    assert calls == ["called"]


def test_a_request_that_is_cancelled_leaves_no_transaction_of_sqlite_behind(tmp_path: Path) -> None:
    """A thread goes on when its waiter has gone; the cleaning up looks for what it has written."""
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    begun, ended = threading.Event(), threading.Event()

    def service(session: Session) -> None:
        session.execute(text("CREATE TABLE things (id INTEGER)"))
        begun.set()
        time.sleep(0.3)
        after_commit(session, ended.set)

    async def run() -> None:
        request = asyncio.create_task(database.call(service))
        await asyncio.to_thread(begun.wait)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert ended.is_set()
        await database.aclose()

    asyncio.run(run())


@pytest.mark.integration
def test_closing_cancels_a_transaction_of_another_task_and_leaves_no_connection(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.CLOSE_SECONDS", 30.0)
    database = Database(postgresql.create_database("closing"))

    async def run() -> None:
        reader = asyncio.create_task(database.read(lambda session: session.execute(text("SELECT pg_sleep(60)"))))
        while "pg_sleep" not in in_progress():  # noqa: ASYNC110 - PostgreSQL does not report it
            await asyncio.sleep(0.02)
        await database.aclose()
        assert reader.cancelled()

    def in_progress() -> str:
        with postgresql.connect() as connection:
            return str(connection.execute("SELECT query FROM pg_stat_activity WHERE datname = 'closing'").fetchall())

    asyncio.run(run())
    gc.collect()  # warns of a connection that was not closed
    until(lambda: in_progress() == "[]")


def test_a_service_knows_the_request_that_it_runs_for(database: Database) -> None:
    request_id = contextvars.ContextVar("request_id", default="none")

    async def run() -> str:
        request_id.set("of this request")
        try:
            return await database.read(lambda _: request_id.get())
        finally:
            await database.aclose()

    assert asyncio.run(run()) == "of this request"


def test_readers_of_requests_do_not_wait_for_a_writer_of_sqlite(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")

    async def run() -> int:
        async with asyncio.timeout(10):
            return await database.read(lambda session: session.execute(select(1)).scalar_one())

    with database.session() as session:
        session.execute(text("CREATE TABLE things (id INTEGER)"))
        assert asyncio.run(run()) == 1
    database.close()


@ON_POSTGRESQL
@pytest.mark.parametrize("lock", AdvisoryLock)
def test_a_lock_holds_up_its_own_kind_alone_until_the_end_of_the_transaction(
    database: Database, lock: AdvisoryLock
) -> None:
    with database.session() as first:
        assert take(first, lock)
        for other in AdvisoryLock:
            with database.session() as second:
                assert take(second, other) == (other is not lock), other
    with database.session() as third:
        assert take(third, lock)
