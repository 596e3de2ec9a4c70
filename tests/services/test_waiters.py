"""Who waits learns of what happens: from this process at once, from another one by one shared reader that looks."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from app.database import Database
from app.errors import DatabaseUnavailable
from app.models import EventType
from app.services import jobs
from app.services.waiters import Waiters
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT
from tests.support.work import accept, crash_after

NEVER = 60.0  # seconds
MOST = 50


def cancel(database: Database, job_id: UUID) -> None:
    with database.session() as session:
        jobs.cancel(session, job_id)


async def never() -> None:
    await asyncio.sleep(NEVER)


async def at_once() -> None:
    pass


def together(waiters: Waiters, meanwhile: Callable[[], object], *waiting: Any) -> float:
    """How long requests had to wait, while something else happens in another thread a little later."""

    async def wait() -> float:
        began = time.monotonic()
        tasks = [asyncio.create_task(coroutine) for coroutine in waiting]
        await asyncio.sleep(0.1)
        await asyncio.gather(asyncio.to_thread(meanwhile), *tasks)
        await waiters.database.aclose()
        return time.monotonic() - began

    return asyncio.run(wait())


def waited(
    waiters: Waiters,
    job_id: UUID,
    meanwhile: Callable[[], object] = lambda: None,
    *,
    seconds: float = NEVER,
    clients: int = 1,
    is_new: bool = True,
    left: Any = never,
) -> float:
    """How long clients had to wait for a job."""
    return together(waiters, meanwhile, *(waiters.job(job_id, seconds, left, is_new=is_new) for _ in range(clients)))


def waiters_of(database: Database, *, alone: bool = True, most: int = MOST) -> Waiters:
    waiters = Waiters(database, most, threading.Event(), alone=alone)
    database.hooks.ended = waiters.notify
    return waiters


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE", "FIRST_PAUSE_ALONE", "LONGEST_PAUSE"):
        monkeypatch.setattr(f"app.services.waiters.{name}", NEVER)


@pytest.mark.usefixtures("nobody_looks")
def test_every_client_is_told_at_once_of_what_ends_in_this_process(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)
    assert waited(waiters, job_id, lambda: cancel(database, job_id), clients=3) < NEVER / 2
    assert not waiters._waiting


@pytest.mark.usefixtures("nobody_looks")
def test_nobody_is_told_of_other_jobs_or_of_what_was_undone(database: Database) -> None:
    waiters, job_id, other = waiters_of(database), accept(database), accept(database)

    def meanwhile() -> None:
        cancel(database, other)
        crash_after(database, lambda session: jobs.cancel(session, job_id))

    assert waited(waiters, job_id, meanwhile, seconds=0.5) >= 0.5
    assert not waiters._waiting


@pytest.mark.parametrize("alone", [True, False])
def test_what_ends_in_another_process_is_found(database: Database, database_url: str, alone: bool) -> None:
    waiters, job_id, other = waiters_of(database, alone=alone), accept(database), Database(database_url)
    assert waited(waiters, job_id, lambda: cancel(other, job_id)) < NEVER / 2
    other.close()


def test_a_job_that_has_ended_before_is_not_waited_for(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)
    cancel(database, job_id)
    assert waited(waiters, job_id) < NEVER / 2


@pytest.mark.usefixtures("nobody_looks")
def test_a_job_that_was_accepted_earlier_is_looked_at_first(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)
    cancel(database, job_id)
    assert waited(waiters, job_id, is_new=False) < NEVER / 2


def test_a_job_that_is_gone_is_not_waited_for(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)

    def remove() -> None:
        with database.session() as session:
            jobs.remove(session, job_id)

    assert waited(waiters, job_id, remove) < NEVER / 2


def test_a_process_that_stops_lets_everybody_go(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)
    assert waited(waiters, job_id, waiters.stopping.set) < NEVER / 2


@pytest.mark.usefixtures("nobody_looks")
def test_a_client_that_leaves_is_waited_for_no_longer(database: Database) -> None:
    waiters, job_id = waiters_of(database), accept(database)
    assert waited(waiters, job_id, left=at_once) < NEVER / 2
    assert not waiters._waiting


def test_a_request_too_many_does_not_wait(database: Database) -> None:
    waiters, job_id = waiters_of(database, most=1), accept(database)
    shown: list[bool] = []

    async def wait() -> None:
        shown.append(await waiters.job(job_id, 0.5, never))

    together(waiters, lambda: None, wait(), wait())
    assert shown == [False, True]


def test_the_database_is_asked_as_often_for_many_as_for_one(database: Database) -> None:
    waiters, job_id = waiters_of(database, alone=False), accept(database)
    asked: list[str] = []
    engine = database.engine if database.is_sqlite else database.async_engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *shown: asked.append(shown[2]))
    waiting = [waiters.job(job_id, 0.8, never, is_new=True) for _ in range(20)]
    waiting += [waiters.event(0, None, 0.8, never, tenant=DEFAULT_TENANT) for _ in range(20)]
    together(waiters, lambda: None, *waiting)
    looks = [statement for statement in asked if statement.startswith("SELECT")]
    assert 2 <= len(looks) <= 40
    assert not waiters._waiting


def test_a_reader_of_the_log_is_told_of_events_of_its_type_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.waiters.LONGEST_PAUSE", 0.1)
    waiters, job_id = waiters_of(database, alone=False), accept(database)

    async def wait() -> None:
        other, wanted = (
            asyncio.create_task(waiters.event(0, type_, NEVER, never, tenant=DEFAULT_TENANT))
            for type_ in (EventType.COMPLETED, EventType.CANCELLED)
        )
        await wanted
        done, _ = await asyncio.wait({other}, timeout=0.3)  # with several looks
        assert not done
        other.cancel()
        await asyncio.wait({other})

    assert together(waiters, lambda: cancel(database, job_id), wait()) < NEVER / 2
    with database.session() as session:
        assert [(entry.position, entry.type) for entry in events.behind(session, 0)] == [(1, EventType.CANCELLED)]


def test_a_database_that_is_away_is_said_to_all_who_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    waiters, job_id = waiters_of(database, alone=False), accept(database)

    def away(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr("app.services.jobs.open_among", away)
    with pytest.raises(DatabaseUnavailable):
        waited(waiters, job_id)
    assert not waiters._waiting
