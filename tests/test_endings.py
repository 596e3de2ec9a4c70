"""Who waits for the end of a job learns of it: from this process at once, from another one by looking."""

import asyncio
import threading
import time
from collections.abc import Callable
from uuid import UUID

import pytest

from app.database import Database
from app.services import jobs
from app.services.endings import Endings
from tests.support.work import accept, crash_after

NEVER = 60.0  # seconds


def cancel(database: Database, job_id: UUID) -> None:
    with database.session() as session:
        jobs.cancel(session, job_id)


def waited(
    endings: Endings,
    job_id: UUID,
    meanwhile: Callable[[], object],
    *,
    seconds: float = NEVER,
    clients: int = 1,
    is_new: bool = True,
) -> float:
    """How long clients had to wait, while something else happens in another thread a little later."""

    async def wait() -> float:
        began = time.monotonic()
        waiting = [asyncio.create_task(endings.wait(job_id, seconds, is_new=is_new)) for _ in range(clients)]
        await asyncio.sleep(0.1)
        await asyncio.gather(asyncio.to_thread(meanwhile), *waiting)
        await endings.database.aclose()
        return time.monotonic() - began

    return asyncio.run(wait())


def endings_of(database: Database, *, alone: bool = True) -> Endings:
    endings = Endings(database, alone, threading.Event())
    database.hooks.ended = endings.tell
    return endings


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE", "FIRST_PAUSE_ALONE", "LONGEST_PAUSE"):
        monkeypatch.setattr(f"app.services.endings.{name}", NEVER)


@pytest.mark.usefixtures("nobody_looks")
def test_every_client_is_told_at_once_of_what_ends_in_this_process(database: Database) -> None:
    endings, job_id = endings_of(database), accept(database)
    assert waited(endings, job_id, lambda: cancel(database, job_id), clients=3) < NEVER / 2
    assert not endings._waiting


@pytest.mark.usefixtures("nobody_looks")
def test_nobody_is_told_of_other_jobs_or_of_what_was_undone(database: Database) -> None:
    endings, job_id, other = endings_of(database), accept(database), accept(database)

    def meanwhile() -> None:
        cancel(database, other)
        crash_after(database, lambda session: jobs.cancel(session, job_id))

    assert waited(endings, job_id, meanwhile, seconds=1.0) >= 1.0
    assert not endings._waiting


@pytest.mark.parametrize("alone", [True, False])
def test_what_ends_in_another_process_is_found(database: Database, database_url: str, alone: bool) -> None:
    endings, job_id, other = endings_of(database, alone=alone), accept(database), Database(database_url)
    assert waited(endings, job_id, lambda: cancel(other, job_id)) < NEVER / 2
    other.close()


def test_a_job_that_has_ended_before_is_not_waited_for(database: Database) -> None:
    endings, job_id = endings_of(database), accept(database)
    cancel(database, job_id)
    assert waited(endings, job_id, lambda: None) < NEVER / 2


@pytest.mark.usefixtures("nobody_looks")
def test_a_job_that_was_accepted_earlier_is_looked_at_first(database: Database) -> None:
    endings, job_id = endings_of(database), accept(database)
    cancel(database, job_id)
    assert waited(endings, job_id, lambda: None, is_new=False) < NEVER / 2


def test_a_job_that_is_gone_is_not_waited_for(database: Database) -> None:
    endings, job_id = endings_of(database), accept(database)

    def remove() -> None:
        with database.session() as session:
            jobs.remove(session, job_id)

    assert waited(endings, job_id, remove) < NEVER / 2


def test_a_process_that_stops_lets_everybody_go(database: Database) -> None:
    endings, job_id = endings_of(database), accept(database)
    assert waited(endings, job_id, endings.stopping.set) < NEVER / 2
