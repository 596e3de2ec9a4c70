"""Circuit breakers: they open, half-open for one probe, close; with and without Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pybreaker
import pytest
import redis
from redis.exceptions import LockError

from app.services.webhooks import breakers as module
from app.services.webhooks.breakers import Breakers, HostFailed, HostPaused, MemoryTrials, RedisTrials
from tests.support.servers import Redis
from tests.support.waiting import until

HOST, OTHER = "https://one.test:443", "https://two.test:443"
FAILURES = 3
RESET = 60  # seconds, which no test awaits: the clock is moved
WITH_REDIS = pytest.param("redis", marks=pytest.mark.integration)

New = Callable[[], Breakers]
Move = Callable[[float], None]


def later(seconds: float) -> type[datetime]:
    """A clock that is ahead."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    return Later


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Moves the clock of all breakers forwards by so many seconds."""

    def to(seconds: float) -> None:
        for user in (pybreaker, module):
            monkeypatch.setattr(user, "datetime", later(seconds))

    return to


@pytest.fixture(params=["memory", WITH_REDIS])
def new(request: pytest.FixtureRequest) -> Iterator[New]:
    """Makes the breakers of one process; in memory there is only one."""
    if request.param == "memory":
        only = breakers(None)
        yield lambda: only
        return
    url = request.getfixturevalue("patient_redis").url
    redis.Redis.from_url(url).flushall()
    yield lambda: breakers(url)


def breakers(url: str | None) -> Breakers:
    return Breakers(failures=FAILURES, reset_seconds=RESET, probe_seconds=5, redis_url=url)


def fail(guards: Breakers, host: str = HOST) -> None:
    with pytest.raises(HostFailed), guards.guard(host):
        raise HostFailed


def succeed(guards: Breakers, host: str = HOST) -> None:
    with guards.guard(host):
        pass


def paused(guards: Breakers, host: str = HOST) -> float:
    with pytest.raises(HostPaused) as refused, guards.guard(host):
        pytest.fail("the host was asked")
    return refused.value.seconds


def opened(new: New) -> Breakers:
    guards = new()
    for _ in range(FAILURES):
        fail(guards)
    return guards


def test_a_host_that_fails_in_a_row_is_left_alone_and_others_are_not(new: New, move: Move) -> None:
    guards = opened(new)
    assert 0 < paused(guards) <= RESET + 1
    assert 0 < paused(new()) <= RESET + 1  # another worker knows
    succeed(guards, OTHER)
    assert new().open_hosts() == 1
    move(RESET + 1)
    succeed(guards)
    assert new().open_hosts() == 0


def test_a_success_between_starts_the_count_again(new: New) -> None:
    guards = new()
    for _ in range(2):
        for _ in range(FAILURES - 1):
            fail(guards)
        succeed(guards)


def test_other_errors_do_not_count(new: New) -> None:
    guards = new()
    for _ in range(FAILURES + 1):
        with pytest.raises(ZeroDivisionError), guards.guard(HOST):
            raise ZeroDivisionError
    succeed(guards)


def test_after_a_while_one_attempt_may_try_and_its_success_closes(new: New, move: Move) -> None:
    guards = opened(new)
    move(RESET + 1)
    with guards.guard(HOST):
        assert paused(guards) > 0
        assert paused(new()) > 0
    succeed(guards)
    succeed(new())


def test_a_probe_that_fails_opens_again_at_once(new: New, move: Move) -> None:
    guards = opened(new)
    move(RESET + 1)
    fail(guards)
    assert paused(guards) > 0


def test_of_many_workers_one_probes(new: New, move: Move) -> None:
    opened(new)
    move(RESET + 1)
    workers = [new() for _ in range(8)]
    decided, asked = threading.Barrier(len(workers)), []

    def work(guards: Breakers) -> None:
        try:
            with guards.guard(HOST):
                asked.append(1)
                decided.wait(60)  # who comes when the probe is over may ask like anybody
        except HostPaused:
            decided.wait(60)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


@pytest.mark.integration
def test_without_redis_each_process_decides_for_itself(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REDIS_SECONDS", 0.3)
    guards = breakers(redis_server.url)
    succeed(guards)
    redis_server.pause()
    try:
        began = time.monotonic()
        for _ in range(FAILURES):
            fail(guards)
        assert paused(guards) > 0
        assert time.monotonic() - began < 30
    finally:
        redis_server.resume()

    def is_closed() -> bool:
        with suppress(HostPaused):
            succeed(guards)
            return True
        return False

    until(is_closed, RESET / 3)  # Redis answers again, in which the host has not failed


@pytest.mark.integration
def test_the_state_of_a_host_vanishes_some_day(patient_redis: Redis) -> None:
    client = redis.Redis.from_url(patient_redis.url)
    client.flushall()
    fail(breakers(patient_redis.url))
    keys = client.keys("pixtools:webhook:*")
    assert len(keys) >= 3
    assert all(client.ttl(key) > 0 for key in keys)


@pytest.fixture
def full(patient_redis: Redis) -> Iterator[str]:
    """A Redis that answers and takes nothing more, with an open breaker in it."""
    client = redis.Redis.from_url(patient_redis.url)
    client.flushall()
    guards = breakers(patient_redis.url)
    for _ in range(FAILURES):
        fail(guards)
    before = client.config_get("maxmemory")
    client.config_set("maxmemory", 1)
    yield patient_redis.url
    client.config_set("maxmemory", before["maxmemory"])
    client.flushall()


@pytest.mark.integration
def test_a_redis_that_keeps_nothing_is_as_good_as_none(full: str, move: Move) -> None:
    guards = breakers(full)
    move(RESET + 1)
    for _ in range(FAILURES):
        fail(guards)
    assert paused(guards) > 0
    for _ in range(FAILURES):
        fail(guards, OTHER)
    assert paused(guards, OTHER) > 0


def test_a_host_is_left_alone_no_longer_because_a_clock_is_ahead(
    new: New, move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pybreaker, "datetime", later(3600))
        guards = opened(new)
    assert 0 < paused(guards) <= RESET
    move(RESET + 1)
    succeed(guards)


@pytest.mark.parametrize("kind", ["memory", WITH_REDIS])
def test_a_probe_that_took_too_long_does_not_end_the_next_one(kind: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("redis_server") if kind == "redis" else None
    probes = RedisTrials(redis.Redis.from_url(server.url)) if server else MemoryTrials()
    late = probes.take(HOST, 0.2)
    assert late
    time.sleep(0.3)
    current = probes.take(HOST, 60)
    assert current
    assert probes.take(HOST, 60) is None
    with suppress(LockError):
        late()
    assert probes.take(HOST, 60) is None
    current()
    assert probes.take(HOST, 60)


def test_hosts_that_nobody_asks_for_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    guards = breakers(None)
    for number in range(20):
        for _ in range(FAILURES):
            fail(guards, f"https://h{number}.test:443")
    assert len(guards._open) == 20
    monkeypatch.setattr("app.services.webhooks.breakers.KEPT_SECONDS", -1)
    for _ in range(FAILURES):
        fail(guards)
    assert list(guards._open) == [HOST]
