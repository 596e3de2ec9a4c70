"""`Idempotency-Key`: the marks in front and the row that decides."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.database import Database
from app.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from app.models import IdempotencyKey, Job
from app.services.idempotency import (
    IN_FLIGHT_SECONDS,
    REDIS_TIMEOUT,
    Front,
    Idempotency,
    Mark,
    MemoryFront,
    RedisFront,
    Scope,
    store_answer,
    stored_answer,
)
from app.tenancy import DEFAULT_TENANT
from tests.support.proxy import TcpProxy
from tests.support.servers import Redis
from tests.support.work import ON_POSTGRESQL, PATIENCE

T = TypeVar("T")


# -- the fingerprint ---------------------------------------------------------------------------------------------------


def test_the_name_of_a_scope_separates_tenants_and_hides_the_key() -> None:
    scopes = [scope(tenant="ann", key="x"), scope(tenant="bob", key="x"), scope(tenant="ann", key="y")]
    assert len({one.name for one in scopes}) == 3
    assert len(scope(key="k" * 255).name) == 64
    assert scope(key="someone@example.org").name.isalnum()


# -- the marks in front ------------------------------------------------------------------------------------------------


def scope(tenant: str = "ann", key: str = "key", sent: str = "f" * 64) -> Scope:
    return Scope(tenant=tenant, key=key, fingerprint=sent)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def new_front(request: pytest.FixtureRequest) -> Callable[[], Front]:
    if request.param == "memory":
        return MemoryFront
    url = request.getfixturevalue("patient_redis").url
    return lambda: RedisFront(url)


def with_front(new_front: Callable[[], Front], use: Callable[[Front], Awaitable[T]]) -> T:
    """What `use` gives with a front of its own, closed in the loop that made it."""

    async def main() -> T:
        front = new_front()
        try:
            return await use(front)
        finally:
            if isinstance(front, RedisFront):
                await front.close()

    return asyncio.run(main())


def test_the_second_mark_gives_the_first_one(new_front: Callable[[], Front]) -> None:
    mine = scope(key=str(uuid4()))
    first, second = uuid7(), uuid7()

    async def use(front: Front) -> None:
        assert await front.mark(mine, first) is None
        assert await front.mark(replace(mine, fingerprint="e" * 64), second) == Mark(
            fingerprint="f" * 64, job_id=str(first)
        )
        await front.unmark(mine, first)

    with_front(new_front, use)


def test_a_mark_can_be_made_again_when_it_is_taken_away(new_front: Callable[[], Front]) -> None:
    mine = scope(key=str(uuid4()))

    async def use(front: Front) -> None:
        first, second = uuid7(), uuid7()
        assert await front.mark(mine, first) is None
        await front.unmark(mine, first)
        assert await front.mark(mine, second) is None
        await front.unmark(mine, second)

    with_front(new_front, use)


def test_nobody_takes_anothers_mark_away(new_front: Callable[[], Front]) -> None:
    mine = scope(key=str(uuid4()))

    async def use(front: Front) -> None:
        first, second = uuid7(), uuid7()
        await front.unmark(mine, first)
        assert await front.mark(mine, first) is None
        await front.unmark(mine, second)
        assert await front.mark(mine, second) == Mark(fingerprint="f" * 64, job_id=str(first))
        await front.unmark(mine, first)

    with_front(new_front, use)


def test_marks_of_different_keys_and_tenants_are_different(new_front: Callable[[], Front]) -> None:
    key = str(uuid4())

    async def use(front: Front) -> None:
        job_id = uuid7()
        scopes = [scope("ann", key), scope("bob", key), scope("ann", f"{key}2")]
        for one in scopes:
            assert await front.mark(one, job_id) is None
        for one in scopes:
            await front.unmark(one, job_id)

    with_front(new_front, use)


def test_of_many_marks_at_once_one_is_the_first(new_front: Callable[[], Front]) -> None:
    mine = scope(key=str(uuid4()))
    jobs = [uuid7() for _ in range(20)]

    async def use(front: Front) -> None:
        marks = await asyncio.gather(*(front.mark(mine, job) for job in jobs))
        assert marks.count(None) == 1
        winner = jobs[marks.index(None)]
        assert {mark.job_id for mark in marks if mark} == {str(winner)}
        await front.unmark(mine, winner)

    with_front(new_front, use)


@pytest.mark.integration
def test_a_mark_in_redis_ends_by_itself_and_holds_no_key(patient_redis: Redis) -> None:
    mine = scope(key="someone@example.org")
    job_id = uuid7()

    async def use(front: Front) -> None:
        assert isinstance(front, RedisFront)
        assert await front.mark(mine, job_id) is None
        names = [name async for name in front._redis.scan_iter("pixtools:idempotency:*")]
        assert any(mine.name in name for name in names)
        assert not any("someone" in name for name in names)
        assert 0 < await front._redis.ttl(front._name(mine)) <= IN_FLIGHT_SECONDS
        await front.unmark(mine, job_id)

    with_front(lambda: RedisFront(patient_redis.url), use)


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["cut", "blackhole"])
def test_without_redis_requests_go_on_at_once_and_the_database_decides(redis_server: Redis, fault: str) -> None:
    mine = scope(key=str(uuid4()))

    with TcpProxy("127.0.0.1", redis_server.port) as proxy:

        async def use(front: Front) -> tuple[float, float]:
            job_id, other = uuid7(), uuid7()
            assert await front.mark(mine, job_id) is None
            getattr(proxy, fault)()
            began = time.monotonic()
            assert await front.mark(mine, other) is None
            first, later = time.monotonic() - began, []
            for _ in range(5):  # one of which is quick on a busy machine as well
                began = time.monotonic()
                assert await front.mark(mine, other) is None
                await front.unmark(mine, other)
                later.append(time.monotonic() - began)
            return first, min(later)

        first, later = with_front(lambda: RedisFront(f"redis://127.0.0.1:{proxy.port}/0"), use)
    assert first < 10
    assert later < REDIS_TIMEOUT


# -- the row that decides ----------------------------------------------------------------------------------------------


def add_job(database: Database) -> UUID:
    now = datetime.now(UTC)
    job = Job(
        id=uuid7(),
        tenant=DEFAULT_TENANT,
        created_at=now,
        expires_at=now + timedelta(hours=1),
        dispatched_at=now,
        operations=[],
        plan={},
        base_url="",
        input_key="",
        input_filename="",
        input_format="jpeg",
        input_width=1,
        input_height=1,
        input_frames=1,
        input_bytes=1,
        input_sha256="",
    )
    with database.session() as session:
        session.add(job)
    return job.id


def store(database: Database, mine: Scope, job_id: UUID, *, seconds: int = 60) -> bool:
    with database.session() as session:
        return store_answer(session, mine, job_id, {"id": str(job_id)}, seconds=seconds)


def stored(database: Database, mine: Scope) -> dict[str, Any] | None:
    with database.session(read_only=True) as session:
        return stored_answer(session, mine)


def test_an_answer_is_kept_for_its_key_and_tenant_only(database: Database) -> None:
    job_id = add_job(database)
    assert stored(database, scope()) is None
    assert store(database, scope(), job_id)
    assert stored(database, scope()) == {"id": str(job_id)}
    assert stored(database, scope(tenant="bob", sent="e" * 64)) is None
    assert stored(database, scope(key="other", sent="e" * 64)) is None


def test_a_key_belongs_to_the_job_that_came_first(database: Database) -> None:
    first, second = add_job(database), add_job(database)
    assert store(database, scope(), first)
    assert not store(database, scope(), second)
    assert not store(database, scope(sent="e" * 64), second)
    assert store(database, scope(tenant="bob"), second)
    assert stored(database, scope()) == {"id": str(first)}


def test_a_key_with_another_payload_is_refused(database: Database) -> None:
    assert store(database, scope(), add_job(database))
    with pytest.raises(IdempotencyKeyReused):
        stored(database, scope(sent="e" * 64))


def test_an_answer_that_is_over_is_replaced(database: Database) -> None:
    first, second = add_job(database), add_job(database)
    assert store(database, scope(), first, seconds=-1)
    assert stored(database, scope()) is None
    assert stored(database, scope(sent="e" * 64)) is None
    assert store(database, scope(sent="e" * 64), second)
    assert stored(database, scope(sent="e" * 64)) == {"id": str(second)}


def test_a_key_goes_with_its_job(database: Database) -> None:
    job_id = add_job(database)
    assert store(database, scope(), job_id)
    with database.session() as session:
        session.execute(delete(Job).where(Job.id == job_id))
    assert stored(database, scope()) is None


def test_of_transactions_at_once_one_gets_the_key(database: Database) -> None:
    job_ids = [add_job(database) for _ in range(6)]
    barrier = threading.Barrier(len(job_ids))

    def compete(job_id: UUID) -> bool:
        barrier.wait(PATIENCE)
        return store(database, scope(), job_id)

    with ThreadPoolExecutor(len(job_ids)) as threads:
        won = list(threads.map(compete, job_ids))
    assert won.count(True) == 1
    assert stored(database, scope()) == {"id": str(job_ids[won.index(True)])}


def overlapping(database: Database, *, commit: bool) -> tuple[bool, bool, UUID, UUID]:
    """Two transactions with one key: whether the second waited for the first, whether it got the key, both jobs."""
    first, second = add_job(database), add_job(database)
    with ThreadPoolExecutor(1) as threads, database.engine.connect() as connection, Session(connection) as session:
        assert store_answer(session, scope(), first, {"id": str(first)}, seconds=60)
        result = threads.submit(store, database, scope(), second)
        time.sleep(0.3)
        waited = not result.done()
        (session.commit if commit else session.rollback)()
        return waited, result.result(PATIENCE), first, second


@ON_POSTGRESQL
def test_a_transaction_waits_for_another_with_the_same_key_and_loses(database: Database) -> None:
    waited, got, first, _ = overlapping(database, commit=True)
    assert (waited, got) == (True, False)
    assert stored(database, scope()) == {"id": str(first)}


@ON_POSTGRESQL
def test_a_transaction_gets_the_key_of_another_that_is_rolled_back(database: Database) -> None:
    waited, got, _, second = overlapping(database, commit=False)
    assert (waited, got) == (True, True)
    assert stored(database, scope()) == {"id": str(second)}


# -- a request's way through both --------------------------------------------------------------------------------------


def begin(database: Database, use: Callable[[Idempotency], Awaitable[T]], *, wait: float = PATIENCE) -> T:
    async def main() -> T:
        try:
            return await use(Idempotency(MemoryFront(), database, wait))
        finally:
            await database.aclose()

    return asyncio.run(main())


def test_the_first_request_goes_on(database: Database) -> None:
    async def use(idempotency: Idempotency) -> None:
        assert await idempotency.begin(scope(), uuid7()) is None

    begin(database, use)


def test_a_repeat_gets_the_stored_answer_and_leaves_no_mark(database: Database) -> None:
    job_id = add_job(database)
    store(database, scope(), job_id)

    async def use(idempotency: Idempotency) -> None:
        for _ in range(2):
            assert await idempotency.begin(scope(), uuid7()) == {"id": str(job_id)}
        assert await idempotency.front.mark(scope(), job_id) is None

    begin(database, use)


def test_a_repeat_with_another_payload_is_refused_and_leaves_no_mark(database: Database) -> None:
    store(database, scope(), add_job(database))

    async def use(idempotency: Idempotency) -> None:
        with pytest.raises(IdempotencyKeyReused):
            await idempotency.begin(scope(sent="e" * 64), uuid7())
        assert await idempotency.front.mark(scope(), uuid7()) is None

    begin(database, use)


def test_another_payload_is_refused_while_the_first_request_is_under_way(database: Database) -> None:
    async def use(idempotency: Idempotency) -> None:
        assert await idempotency.begin(scope(), uuid7()) is None
        with pytest.raises(IdempotencyKeyReused):
            await idempotency.begin(scope(sent="e" * 64), uuid7())

    begin(database, use)


def test_a_repeat_gives_up_waiting_and_names_the_job_under_way(database: Database) -> None:
    first = uuid7()

    async def use(idempotency: Idempotency) -> float:
        assert await idempotency.begin(scope(), first) is None
        started = time.monotonic()
        with pytest.raises(IdempotencyKeyInFlight) as refused:
            await idempotency.begin(scope(), uuid7())
        assert (refused.value.status, refused.value.extra) == (409, {"job_id": str(first)})
        assert refused.value.retry_after
        assert refused.value.retryable
        return time.monotonic() - started

    assert 0.3 <= begin(database, use, wait=0.3) < 10


def test_a_repeat_gets_the_answer_as_soon_as_the_first_request_commits(database: Database) -> None:
    job_id = add_job(database)

    async def use(idempotency: Idempotency) -> None:
        assert await idempotency.begin(scope(), job_id) is None
        repeats = [asyncio.create_task(idempotency.begin(scope(), uuid7())) for _ in range(5)]
        await asyncio.sleep(0.3)
        assert not any(repeat.done() for repeat in repeats)
        assert await database.call(store_answer, scope(), job_id, {"id": str(job_id)}, seconds=60)
        async with asyncio.timeout(PATIENCE / 2):
            answers = await asyncio.gather(*repeats)
        assert answers == [{"id": str(job_id)}] * 5
        await idempotency.end(scope(), job_id)

    begin(database, use)


def test_a_repeat_becomes_the_first_when_the_first_request_fails(database: Database) -> None:
    async def use(idempotency: Idempotency) -> None:
        first, second, third = uuid7(), uuid7(), uuid7()
        assert await idempotency.begin(scope(), first) is None
        repeat = asyncio.create_task(idempotency.begin(scope(), second))
        await asyncio.sleep(0.1)
        await idempotency.end(scope(), first)
        async with asyncio.timeout(PATIENCE / 2):
            assert await repeat is None
        assert await idempotency.front.mark(scope(), third) == Mark(fingerprint="f" * 64, job_id=str(second))

    begin(database, use)


def test_an_expired_key_is_as_good_as_new(database: Database) -> None:
    store(database, scope(), add_job(database), seconds=-1)

    async def use(idempotency: Idempotency) -> None:
        assert await idempotency.begin(scope(sent="e" * 64), uuid7()) is None

    begin(database, use)


def test_a_key_has_one_row_at_most(database: Database) -> None:
    for seconds in (-1, -1, 60, 60):
        store(database, scope(), add_job(database), seconds=seconds)
    with database.session(read_only=True) as session:
        assert len(session.scalars(select(IdempotencyKey)).all()) == 1
