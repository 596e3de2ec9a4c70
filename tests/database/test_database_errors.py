"""Errors of both real databases: which of them are repeated, and what a client gets to see."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery.exceptions import Reject
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import problems
from app.database import Database
from app.database_errors import is_away, is_damaged, is_full, name_of
from app.tasks.runtime import undone_when_cut_off
from tests.support.deployment import free_port
from tests.support.servers import PostgreSQL
from tests.support.small_disk import CannotMount, filled, small_disk

AWAY_STATES = [
    "08006",
    "25006",
    "25P03",
    "40001",
    "40P01",
    "53000",
    "53100",
    "53200",
    "53300",
    "55P03",
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "58030",
]
WRONG_STATES = [
    "0A000",
    "22001",
    "22003",
    "22P02",
    "23502",
    "23503",
    "23505",
    "3D000",
    "42601",
    "42703",
    "42804",
    "42P01",
    "57014",
    "P0001",
    "XX000",
]
WRONG = {
    "no such column": "SELECT nope FROM things",
    "no such table": "SELECT 1 FROM nothing",
    "not unique": "INSERT INTO things VALUES (1), (1)",
    "not null": "INSERT INTO things VALUES (NULL)",
    "syntax": "SELEC",
}


def caught(call: Callable[[], object]) -> DBAPIError:
    with pytest.raises(DBAPIError) as error:
        call()
    return error.value


def execute(database: Database, *statements: str) -> None:
    with database.session() as session:
        for statement in statements:
            session.execute(text(statement))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    execute(database, "CREATE TABLE things (id INTEGER NOT NULL UNIQUE)")
    yield database
    database.close()


@pytest.fixture(scope="module")
def postgres(postgresql: PostgreSQL) -> Iterator[Database]:
    database = Database(postgresql.create_database("database_errors"))
    execute(database, "CREATE TABLE things (id INTEGER NOT NULL UNIQUE)")
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.integration)])
def either(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG)
def test_a_wrong_statement_is_not_repeated(either: Database, statement: str) -> None:
    calls = 0

    def service(session: Session) -> None:
        nonlocal calls
        calls += 1
        session.execute(text(statement))

    began = time.monotonic()
    error = caught(lambda: either.retry(service))
    assert (calls, is_away(error), is_full(error)) == (1, False, False), name_of(error)
    assert time.monotonic() - began < 5


@pytest.mark.integration
@pytest.mark.parametrize("state", [*AWAY_STATES, *WRONG_STATES])
def test_a_state_of_postgresql_decides(postgres: Database, state: str) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$"
    error = caught(lambda: execute(postgres, raising))
    assert name_of(error) == state
    assert is_away(error) == (state in AWAY_STATES)
    assert is_full(error) == (state == "53100")


@pytest.mark.integration
def test_a_lock_that_is_not_free_in_time_is_repeated(postgres: Database) -> None:
    with postgres.session() as session:
        session.execute(text("LOCK TABLE things"))
        error = caught(lambda: execute(postgres, "SET lock_timeout = '50ms'", "SELECT * FROM things"))
    assert (name_of(error), is_away(error)) == ("55P03", True)


@pytest.mark.integration
def test_a_connection_that_breaks_is_repeated(postgres: Database) -> None:
    error = caught(lambda: execute(postgres, "SELECT pg_terminate_backend(pg_backend_pid())"))
    assert is_away(error), name_of(error)


@pytest.mark.integration
def test_too_many_connections_are_repeated(postgresql: PostgreSQL) -> None:
    url = postgresql.create_database("crowded")
    with postgresql.connect() as connection:  # a superuser is not limited
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        connection.execute("ALTER ROLE guest CONNECTION LIMIT 1")
    name = url.rpartition("/")[2]
    database = Database(f"postgresql://guest:guest@127.0.0.1:{postgresql.port}/{name}")
    with database.session() as session:
        session.execute(text("SELECT 1"))
        error = caught(lambda: execute(database, "SELECT 1"))
    database.close()
    assert is_away(error), name_of(error)


def test_a_server_that_is_not_there_is_repeated() -> None:
    database = Database(f"postgresql://absent@127.0.0.1:{free_port()}/nothing")
    assert is_away(caught(lambda: execute(database, "SELECT 1")))


def test_a_sqlite_that_another_process_writes_is_repeated(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.BUSY_TIMEOUT", 0.01)
    other = Database(f"sqlite:///{tmp_path / 'test.db'}")
    with sqlite.session() as session:
        session.execute(text("SELECT 1"))
        error = caught(lambda: execute(other, "SELECT 1"))
    other.close()
    assert (name_of(error), is_away(error)) == ("SQLITE_BUSY", True)


def test_a_full_sqlite_is_repeated_and_goes_on_when_there_is_room(sqlite: Database) -> None:
    room = iter([1, 1, 1_000_000])

    def service(session: Session) -> str:
        session.execute(text(f"PRAGMA max_page_count = {next(room)}"))
        session.execute(text("CREATE TABLE more (data BLOB)"))
        session.execute(text("INSERT INTO more VALUES (zeroblob(100000))"))
        return "written"

    assert sqlite.retry(service) == "written"
    error = caught(lambda: execute(sqlite, "PRAGMA max_page_count = 1", "INSERT INTO more VALUES (zeroblob(1000000))"))
    assert (name_of(error), is_full(error), is_away(error)) == ("SQLITE_FULL", True, True)


def test_a_sqlite_that_cannot_be_opened_is_repeated(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nowhere' / 'test.db'}")
    error = caught(lambda: execute(database, "SELECT 1"))
    assert (name_of(error), is_away(error)) == ("SQLITE_CANTOPEN", True)


def test_a_damaged_sqlite_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"no database" * 1000)
    error = caught(lambda: execute(Database(f"sqlite:///{tmp_path / 'test.db'}"), "SELECT 1"))
    assert (name_of(error), is_damaged(error), is_away(error)) == ("SQLITE_NOTADB", True, False)


def test_a_task_gives_back_its_message_only_while_the_database_is_away(sqlite: Database, tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path / 'nowhere' / 'test.db'}")
    with pytest.raises(Reject), undone_when_cut_off():
        execute(away, "SELECT 1")
    with pytest.raises(DBAPIError), undone_when_cut_off():
        execute(sqlite, "SELECT nope FROM things")


async def _answers(database: Database, statement: str) -> httpx.Response:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def run() -> None:
        await database.call(lambda session: session.execute(text(statement)))

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pixtools.test") as client:
        return await client.get("/")


def answer_of(database: Database, statement: str) -> tuple[httpx.Response, dict[str, Any]]:
    async def main() -> httpx.Response:
        try:
            return await _answers(database, statement)
        finally:
            await database.aclose()  # the next call has an event loop of its own

    answer = asyncio.run(main())
    return answer, answer.json()


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG)
def test_a_client_is_not_asked_to_repeat_a_mistake_of_the_server(
    either: Database, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, problem = answer_of(either, statement)
    assert (answer.status_code, problem["code"]) == (500, "internal_error")
    assert "retry-after" not in answer.headers
    [record] = [record for record in caplog.records if record.message == "database_error"]
    assert record.exc_info, "the operator needs the traceback"


@pytest.mark.integration
@pytest.mark.parametrize("state", ["53100", "40P01", "57P01"])
def test_a_client_is_asked_to_come_back_while_the_database_is_away(postgres: Database, state: str) -> None:
    answer, problem = answer_of(postgres, f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$")
    assert (answer.status_code, problem["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert ("no room" in problem["detail"]) == (state == "53100")


@pytest.mark.integration
def test_a_server_whose_disk_is_full_is_asked_until_it_has_room(postgresql: PostgreSQL) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(postgresql.home / "small-disk", 32))
        except CannotMount as reason:
            pytest.skip(f"NOT TESTED: no disk can be mounted here ({reason}); run the tests as root")
        shutil.chown(disk, postgresql.user)
        with postgresql.connect() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            connection.execute("CREATE DATABASE small TABLESPACE small")
            stack.callback(_drop, postgresql)
        database = Database(postgresql.database_url("small"))
        execute(database, "CREATE TABLE things (data TEXT)")
        asyncio.run(_checked(database))
        with filled(disk):
            error = caught(
                lambda: execute(database, "INSERT INTO things SELECT repeat('x', 1000) FROM generate_series(1, 9000)")
            )
            assert (name_of(error), is_full(error), is_away(error)) == ("53100", True, True)
            error = caught(lambda: asyncio.run(_checked(database)))
            assert is_full(error)
            assert database.is_full
        asyncio.run(_checked(database))
        assert not database.is_full
        execute(database, "INSERT INTO things SELECT repeat('x', 1000) FROM generate_series(1, 900)")
        database.close()


def _drop(postgresql: PostgreSQL) -> None:
    with postgresql.connect() as connection:
        connection.execute("DROP DATABASE small WITH (FORCE)")
        connection.execute("DROP TABLESPACE small")


async def _checked(database: Database) -> None:
    try:
        await database.check_room()
    finally:
        await database.aclose()  # the next call has an event loop of its own


def test_a_client_is_asked_to_come_back_while_sqlite_is_full(sqlite: Database) -> None:
    execute(sqlite, "CREATE TABLE more (data BLOB)")
    with sqlite.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    statement = "INSERT INTO more VALUES (zeroblob(1000000))"
    event.listen(
        sqlite.engine,
        "checkout",
        lambda connection, *_: connection.cursor().execute(f"PRAGMA max_page_count = {pages}"),
    )
    answer, problem = answer_of(sqlite, statement)
    assert (answer.status_code, problem["code"]) == (503, "database_unavailable")
    assert "no room" in problem["detail"]
    assert int(answer.headers["retry-after"]) > 0
