"""Circuit breakers, one for each host that receives webhooks; all workers share their state through Redis.

pybreaker keeps the state and decides. This module adds three things: only one probe of a host at a time, whereas
pybreaker would let all workers try it at once; an expiry of the keys of unused hosts; and the time of the next try.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import pybreaker
from redis import Redis, RedisError
from redis.exceptions import LockError
from redis.lock import Lock

log = logging.getLogger(__name__)

NAMESPACE = "pixtools:webhook"
KEYS = ("fail_counter", "success_counter", "state", "opened_at")  # pybreaker's names
MOST_HOSTS = 1024  # breaker objects in one process; their state is in Redis
OPEN = f"{NAMESPACE}:open"  # sorted set of the hosts with an open breaker, by the time when it opened
KEPT_SECONDS = 7200  # longer than any delivery is postponed, so a host with older state is no longer used
CLOCKS_DIFFER = 2.0  # most seconds by which synchronized clocks differ
PROBE_MARGIN = 5.0  # seconds beyond the longest time of an attempt
REDIS_SECONDS = 1.0  # time-out of an answer; without one the breakers of this process decide alone


class HostPaused(Exception):
    """The host must not get a request now."""

    def __init__(self, seconds: float, *, grows: bool = True) -> None:
        """Set when to try again.

        Args:
            seconds: seconds until the next request is allowed.
            grows: whether the pause grows each time.
        """
        super().__init__(seconds)
        self.seconds = seconds
        self.grows = grows


class HostFailed(Exception):
    """The host has failed; to be raised within `Breakers.guard`."""


def _key(origin: str, name: str) -> str:
    return f"{NAMESPACE}:{origin}:{pybreaker.CircuitRedisStorage.BASE_NAMESPACE}:{name}"


GiveBack = Callable[[], None]


class Trials(Protocol):
    """Probes of hosts that have failed: one at a time for each host."""

    def take(self, origin: str, seconds: float) -> GiveBack | None:
        """Start a probe, which ends after `seconds` at the latest; returns a function that ends it.

        None: another probe is in progress.
        """


@dataclass
class MemoryTrials:
    """Probes of one process, in memory."""

    _until: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, origin: str, seconds: float) -> GiveBack | None:
        with self._lock:
            now = time.monotonic()
            if self._until.get(origin, 0.0) > now:
                return None
            self._until[origin] = now + seconds
            return partial(self._give_back, origin, now + seconds)

    def _give_back(self, origin: str, until: float) -> None:
        with self._lock:
            if self._until.get(origin) == until:
                del self._until[origin]


@dataclass(frozen=True)
class RedisTrials:
    """Probes of all processes, in Redis; the probe of a process that dies ends when its time is over."""

    redis: Redis

    def take(self, origin: str, seconds: float) -> GiveBack | None:
        lock = Lock(self.redis, f"{NAMESPACE}:probe:{origin}", timeout=seconds, thread_local=False)
        return lock.release if lock.acquire(blocking=False) else None

    def forget_later(self, origin: str) -> None:
        """Let the state of an unused host expire, which pybreaker would keep for ever."""
        pipe = self.redis.pipeline(transaction=False)
        for key in KEYS:
            pipe.expire(_key(origin, key), KEPT_SECONDS)
        pipe.execute()


class Breakers:
    """The breakers of this process."""

    def __init__(
        self, *, failures: int, reset_seconds: float, probe_seconds: float, redis_url: str | None = None
    ) -> None:
        """Set up without connecting.

        Args:
            failures: number of consecutive failures after which the breaker of a host opens.
            reset_seconds: seconds for which a breaker stays open.
            probe_seconds: longest duration of an attempt.
            redis_url: URL of the Redis with the shared state; None: there is only this process.
        """
        self._failures = failures
        self._reset_seconds = reset_seconds
        self._probe_seconds = probe_seconds + PROBE_MARGIN
        self._redis = _connect(redis_url) if redis_url else None
        self._probes = MemoryTrials()
        self._shared: OrderedDict[str, pybreaker.CircuitBreaker] = OrderedDict()
        self._own: OrderedDict[str, pybreaker.CircuitBreaker] = OrderedDict()
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}

    def open_hosts(self) -> int:
        """The number of open breakers of all workers; while Redis is away, of this process."""
        since = time.time() - KEPT_SECONDS
        if self._redis is not None:
            try:
                return int(self._redis.zcount(OPEN, since, "+inf"))
            except RedisError as error:
                _warn(error)
        with self._lock:
            return sum(at > since for at in self._open.values())

    def _note(self, redis: Redis | None, origin: str, *, is_open: bool) -> None:
        with self._lock:
            self._open = {host: at for host, at in self._open.items() if at > time.time() - KEPT_SECONDS}
            if is_open:
                self._open[origin] = time.time()
            else:
                self._open.pop(origin, None)
        if redis is not None:
            with suppress(RedisError):
                redis.zremrangebyscore(OPEN, "-inf", time.time() - KEPT_SECONDS)
                redis.zadd(OPEN, {origin: time.time()}) if is_open else redis.zrem(OPEN, origin)

    @contextmanager
    def guard(self, origin: str) -> Iterator[None]:
        """Guard a request to a host; a failure that counts against the host has to raise `HostFailed` in the block.

        Raises:
            HostPaused: the breaker is open; the block was not entered.
        """
        breaker, probes = self._choose(origin)
        probing = breaker.current_state != pybreaker.STATE_CLOSED
        give_back = self._take_probe(breaker, probes, origin) if probing else None
        try:
            with breaker.calling():
                yield
        except pybreaker.CircuitBreakerError:
            raise HostPaused(self._reset_seconds) from None  # another worker's failure has just opened it
        finally:
            self._leave(probes, origin, give_back)

    def _choose(self, origin: str) -> tuple[pybreaker.CircuitBreaker, Trials]:
        """The shared breaker of all workers; while Redis is away, that of this process."""
        if self._redis is not None:
            try:
                # A write, since a Redis that is read-only or out of memory answers reads, and pybreaker ignores errors
                self._redis.set(f"{NAMESPACE}:alive", 1, ex=KEPT_SECONDS)
                return self._breaker(self._shared, origin, self._redis), RedisTrials(self._redis)
            except RedisError as error:
                _warn(error)
        return self._breaker(self._own, origin, None), self._probes

    def _breaker(
        self, known: OrderedDict[str, pybreaker.CircuitBreaker], origin: str, redis: Redis | None
    ) -> pybreaker.CircuitBreaker:
        with self._lock:
            if origin not in known:
                known[origin] = self._new(origin, redis)
            known.move_to_end(origin)
            if len(known) > MOST_HOSTS:
                known.popitem(last=False)
            return known[origin]

    def _new(self, origin: str, redis: Redis | None) -> pybreaker.CircuitBreaker:
        storage = (
            pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, redis, namespace=f"{NAMESPACE}:{origin}")
            if redis is not None
            else pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        )
        return pybreaker.CircuitBreaker(
            fail_max=self._failures,
            reset_timeout=self._reset_seconds,
            exclude=[_is_no_failure],
            listeners=[_Listener(partial(self._note, redis))],
            state_storage=storage,
            name=origin,
            throw_new_error_on_trip=False,  # the last failure is an attempt like any other
        )

    def _take_probe(self, breaker: pybreaker.CircuitBreaker, probes: Trials, origin: str) -> GiveBack:
        left = self._left(breaker)
        if left > 0:
            raise HostPaused(left)
        try:
            give_back = probes.take(origin, self._probe_seconds)
        except RedisError:
            return _nothing
        if give_back is None:  # the outcome of the other probe is known soon
            raise HostPaused(min(self._probe_seconds, self._reset_seconds), grows=False)
        return give_back

    def _left(self, breaker: pybreaker.CircuitBreaker) -> float:
        """The seconds until a host may be tried again."""
        opened_at = breaker._state_storage.opened_at  # noqa: SLF001 - pybreaker has no public name for it
        if breaker.current_state != pybreaker.STATE_OPEN or opened_at is None:
            return 0.0
        left = self._reset_seconds - (datetime.now(UTC) - opened_at).total_seconds()
        if left > self._reset_seconds + CLOCKS_DIFFER:  # written by a process whose clock is wrong
            self._begin_now(breaker)
        return float(min(left, self._reset_seconds))

    def _begin_now(self, breaker: pybreaker.CircuitBreaker) -> None:
        """Set the opening time of an open breaker to now, since pybreaker only moves it forwards."""
        if self._redis is not None and isinstance(breaker._state_storage, pybreaker.CircuitRedisStorage):  # noqa: SLF001
            self._redis.delete(_key(str(breaker.name), "opened_at"))
        breaker._state_storage.opened_at = datetime.now(UTC)  # noqa: SLF001

    def _leave(self, probes: Trials, origin: str, give_back: GiveBack | None) -> None:
        try:
            if isinstance(probes, RedisTrials):
                probes.forget_later(origin)
            if give_back is not None:
                give_back()
        except LockError:
            pass  # its time was already over
        except RedisError as error:
            _warn(error)


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        before = old_state.name if old_state else None
        log.warning("webhook_breaker", extra={"origin": cb.name, "state": new_state.name, "before": before})
        if new_state.name != pybreaker.STATE_HALF_OPEN:
            self._note(cb.name, is_open=new_state.name == pybreaker.STATE_OPEN)


def _is_no_failure(error: BaseException) -> bool:
    return not isinstance(error, HostFailed)


def _nothing() -> None:
    """Do nothing, to end a probe that is not recorded in Redis."""


def _warn(error: RedisError) -> None:
    log.warning("breakers_redis_unavailable", extra={"error": type(error).__name__})


def _connect(url: str) -> Redis:
    # no decoding of responses, since pybreaker expects bytes
    return Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
