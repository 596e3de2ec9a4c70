"""What tenants have used: each end of a job counts once, whichever process counts, is killed or deletes it before."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from app.database import Database
from app.models import Counter, Event, Job, UsageDay
from app.services import jobs, steps
from app.services.access import tenants, usage
from app.services.steps import Usage
from app.services.storage.local import LocalFolder
from app.services.upkeep.accounts import Accounts
from app.services.upkeep.retention import remove_expired_jobs
from app.services.webhooks import events
from tests.support.work import OUTCOME, accept, change, claimed, crash_after, fail, in_parallel, today

ONE: list[Any] = ["convert_png"]
TWO: list[Any] = ["convert_png", "convert_webp"]
USED = Usage(cpu_seconds=0.5, pixels=100, bytes_in=10, bytes_out=3)


@pytest.fixture(autouse=True)
def _unused(database: Database) -> Iterator[None]:
    yield
    change(database, delete(UsageDay))


def done(database: Database, job_id: UUID, task: str = "0") -> None:
    held = claimed(database, job_id, task)
    with database.session() as session:
        assert steps.succeed(session, held, {task: [OUTCOME]}, usage=USED)


def ended(database: Database, **more: Any) -> UUID:
    job_id = accept(database, ONE, **more)
    done(database, job_id)
    return job_id


def count(database: Database) -> int:
    return Accounts(database, every_seconds=60).run_once()


def rows(database: Database) -> dict[tuple[str, date, str, str], tuple[int, int, int, int, float]]:
    with database.session(read_only=True) as session:
        return {
            (row.tenant, row.day, row.key_id, row.template): (
                row.jobs,
                row.bytes_in,
                row.bytes_out,
                row.pixels,
                row.cpu_seconds,
            )
            for row in session.scalars(select(UsageDay))
        }


def only(database: Database) -> tuple[int, int, int, int, float]:
    (row,) = rows(database).values()
    return row


def test_figures_are_those_of_the_steps_by_tenant_key_template_and_day(database: Database) -> None:
    with database.session() as session:
        tenants.create(session, "other")
    ended(database)
    ended(database, key_id="first")
    ended(database, key_id="first")
    templated = ended(database, key_id="first", tenant="other")
    yesterday = ended(database)
    with database.session() as session:
        session.execute(update(Job).where(Job.id == templated).values(template="shop@2"))
        earlier = datetime.now(UTC) - timedelta(days=1)
        session.execute(update(Event).where(Event.job_id == yesterday).values(created_at=earlier))
    assert count(database) == 5
    one = (1, 10, 3, 100, 0.5)
    assert rows(database) == {
        ("default", today(), "", ""): one,
        ("default", today() - timedelta(days=1), "", ""): one,
        ("default", today(), "first", ""): (2, 20, 6, 200, 1.0),
        ("other", today(), "first", "shop@2"): one,
    }
    assert count(database) == 0
    ended(database)
    count(database)
    assert rows(database)["default", today(), "", ""] == (2, 20, 6, 200, 1.0)


def test_failed_and_cancelled_jobs_count_with_what_they_used(database: Database) -> None:
    failed, cancelled = accept(database, TWO), accept(database, TWO)
    for job_id in (failed, cancelled):
        done(database, job_id)
    fail(database, claimed(database, failed, "1"))
    with database.session() as session:
        jobs.cancel(session, cancelled)
    count(database)
    assert only(database) == (2, 20, 6, 200, 1.0)


def test_a_retry_adds_what_it_used_and_no_second_job(database: Database) -> None:
    job_id = accept(database, TWO)
    done(database, job_id)
    fail(database, claimed(database, job_id, "1"))
    count(database)
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
    assert count(database) == 0, "it has not ended"
    done(database, job_id, "1")
    count(database)
    assert only(database) == (1, 20, 6, 200, 1.0)


def test_counting_that_is_cut_off_counts_nothing_and_the_next_one_everything_once(database: Database) -> None:
    for _ in range(3):
        ended(database)
    with database.session() as session:
        events.number(session)
    crash_after(database, usage.aggregate)
    assert rows(database) == {}
    count(database)
    crash_after(database, usage.aggregate)
    assert only(database)[0] == 3


def test_any_number_of_processes_count_each_end_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "BATCH", 2)
    for _ in range(9):
        ended(database)
    in_parallel([lambda: count(database)] * 4)
    count(database)
    assert only(database) == (9, 90, 27, 900, 4.5)


@pytest.mark.parametrize("is_numbered", [True, False], ids=["numbered", "unnumbered"])
def test_what_is_deleted_before_its_turn_is_counted_by_the_deletion(database: Database, is_numbered: bool) -> None:
    job_id, counted = ended(database), ended(database)
    if is_numbered:
        with database.session() as session:
            events.number(session)
    for _ in range(2):  # a deletion that is repeated counts nothing twice
        remove(database, job_id)
    assert only(database) == (1, 10, 3, 100, 0.5)
    count(database)
    remove(database, counted)
    count(database)
    assert only(database) == (2, 20, 6, 200, 1.0)


def remove(database: Database, job_id: UUID) -> None:
    with database.session() as session:
        jobs.remove(session, job_id)


def test_a_deletion_that_is_cut_off_counts_nothing(database: Database) -> None:
    job_id = ended(database)
    crash_after(database, lambda session: jobs.remove(session, job_id))
    assert rows(database) == {}
    count(database)
    assert only(database)[0] == 1


def test_a_job_that_is_deleted_while_it_runs_is_counted(database: Database) -> None:
    job_id = accept(database, TWO)
    done(database, job_id)
    for _ in range(2):
        with database.session() as session:
            jobs.stop(session, job_id)
    remove(database, job_id)
    count(database)
    assert only(database) == (1, 10, 3, 100, 0.5)


def test_counting_and_deleting_at_the_same_time_count_once(database: Database) -> None:
    found = [ended(database) for _ in range(8)]
    with database.session() as session:
        events.number(session)
    in_parallel([lambda job_id=job_id: remove(database, job_id) for job_id in found] + [lambda: count(database)] * 2)
    count(database)
    assert only(database)[0] == 8


def test_retention_counts_before_it_erases(database: Database, tmp_path: Any) -> None:
    job_id = ended(database)
    with database.session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    with database.session() as session:
        removal = remove_expired_jobs(session, LocalFolder(tmp_path))
    assert removal.removed == [job_id]
    assert only(database) == (1, 10, 3, 100, 0.5)
    count(database)
    assert only(database)[0] == 1


def test_pages_follow_each_other_and_are_the_tenants_own(database: Database) -> None:
    for key in ("a", "b", "c"):
        ended(database, key_id=key)
    count(database)
    with database.session(read_only=True) as session:
        first, cursor = usage.list_page(session, tenant="default", since=today(), until=today(), limit=2)
        rest, last = usage.list_page(session, tenant="default", since=today(), until=today(), limit=2, cursor=cursor)
        assert [row.key_id for row in (*first, *rest)] == ["a", "b", "c"]
        assert (cursor is not None, last) == (True, None)
        tomorrow = today() + timedelta(days=1)
        assert usage.list_page(session, tenant="default", since=tomorrow, until=tomorrow, limit=2) == ([], None)
        assert usage.list_page(session, tenant="other", since=today(), until=today(), limit=2) == ([], None)
        place = session.scalars(select(Counter.value).where(Counter.name == usage.COUNTER)).one()
        assert place > 0
