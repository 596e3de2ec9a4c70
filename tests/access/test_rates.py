"""Requests a minute: one bucket for each tenant, in Redis for all processes, in memory while Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from app import metrics
from app.errors import RateLimited
from app.services.access import rates
from app.services.access.rates import MemoryRates, Rates, RedisRates, Taken
from tests.support.deployment import free_port
from tests.support.servers import Redis

LIMIT = 5


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def two_processes(url: str) -> AsyncIterator[tuple[RedisRates, RedisRates]]:
    first, second = RedisRates(url), RedisRates(url)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


async def take(counted: Rates, tenant: str, times: int, limit: int = LIMIT) -> list[Taken]:
    return [await counted.take(tenant, limit) for _ in range(times)]


def allowed(taken: list[Taken]) -> int:
    return sum(one.allowed for one in taken)


def alone() -> float:
    return metrics.RATES_ALONE._value.get()


def test_a_bucket_empties_and_fills_again_all_the_time() -> None:
    clock = Clock()
    counted = MemoryRates(clock)
    assert allowed(asyncio.run(take(counted, "a", 2 * LIMIT))) == LIMIT
    clock.now += 60 / LIMIT * 2
    assert allowed(asyncio.run(take(counted, "a", 2 * LIMIT))) == 2
    clock.now += 3600
    assert allowed(asyncio.run(take(counted, "a", 2 * LIMIT))) == LIMIT, "no more than a full bucket"
    assert allowed(asyncio.run(take(counted, "b", 1))) == 1, "each tenant has its own"


def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_KEPT", 3)
    clock = Clock()
    counted = MemoryRates(clock)
    for name in "abc":
        asyncio.run(take(counted, name, 1))
    clock.now += 61
    asyncio.run(take(counted, "d", 1))
    assert list(counted._buckets) == ["d"]


def test_what_is_left_and_when_to_come_again_is_told() -> None:
    clock = Clock()
    taken = asyncio.run(take(MemoryRates(clock), "a", LIMIT + 1))
    assert taken[0].headers == {"RateLimit-Policy": '"requests";q=5;w=60', "RateLimit": '"requests";r=4;t=12'}
    assert taken[-1].headers["RateLimit"] == '"requests";r=0;t=60'
    taken[0].check()
    with pytest.raises(RateLimited) as refused:
        taken[-1].check()
    error = refused.value
    assert (error.status, error.code, error.limit, error.retry_after) == (429, "rate_limited", LIMIT, 12)
    assert error.extra == {"limit_name": "requests_per_minute"}


@pytest.mark.integration
def test_all_processes_count_together(patient_redis: Redis) -> None:
    tenant = uuid4().hex

    async def burst() -> list[Taken]:
        async with two_processes(patient_redis.url) as both:
            calls = [each.take(tenant, LIMIT) for _ in range(LIMIT) for each in both]
            return list(await asyncio.gather(*calls))

    before = alone()
    assert allowed(asyncio.run(burst())) == LIMIT
    assert alone() == before


@pytest.mark.integration
def test_a_bucket_in_redis_fills_again_and_is_forgotten_when_it_is_full(patient_redis: Redis) -> None:
    tenant = uuid4().hex

    async def run() -> None:
        async with two_processes(patient_redis.url) as (first, second):
            limit = 600  # ten a second
            began = time.monotonic()
            emptied = allowed(await take(first, tenant, limit + 50, limit))
            assert limit <= emptied <= limit + 10 * (time.monotonic() - began) + 1
            await asyncio.sleep(0.5)
            again = allowed(await take(second, tenant, 100, limit))
            assert 5 <= again <= 10 * (time.monotonic() - began) + 1
            assert 0 < await first._redis.ttl(f"pixtools:rate:{tenant}") <= 120

    asyncio.run(run())


def test_without_redis_each_process_counts_by_itself_and_tells(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[int]:
        async with two_processes(f"redis://127.0.0.1:{free_port()}/0") as both:
            return [allowed(await take(each, "a", 2 * LIMIT)) for each in both]

    before = alone()
    assert asyncio.run(run()) == [LIMIT, LIMIT]
    assert alone() - before == 4 * LIMIT
    assert [record.message for record in caplog.records].count("rates_counted_alone") == 2, "once, not at every request"


@pytest.mark.integration
def test_redis_is_asked_again_after_a_while(patient_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.absent_redis.PAUSE_SECONDS", 60)
    tenant, gone = uuid4().hex, alone()

    async def run(after: Callable[[RedisRates], None]) -> None:
        counted = RedisRates(patient_redis.url)
        good = counted._script
        counted._script = RedisRates(f"redis://127.0.0.1:{free_port()}/0")._script
        await take(counted, tenant, 1)
        counted._script = good
        await take(counted, tenant, 1)
        assert alone() - gone == 2, "it is left alone for a while"
        after(counted)
        await take(counted, tenant, 1)
        await counted.close()

    def over(counted: RedisRates) -> None:
        counted._pause.until = 0.0

    asyncio.run(run(over))
    assert alone() - gone == 2
