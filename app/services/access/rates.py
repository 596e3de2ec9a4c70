"""Rate limits: a token bucket for each tenant, which refills continuously.

The buckets are in Redis, so that all API processes count together. While Redis is away, each process counts by itself:
a tenant then gets its rate from each process, but the service continues to answer.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from app import metrics
from app.absent_redis import REDIS_ERRORS, Pause, client
from app.errors import RateLimited

log = logging.getLogger(__name__)

WINDOW = 60  # seconds in which an empty bucket fills
REDIS_TIMEOUT = 0.25  # seconds
MOST_KEPT = 10_000  # buckets in one process; full ones need not be kept
POLICY = "requests"
RATE_HEADERS = "pixtools.rate"  # key in the ASGI scope of a request for the headers of its answer

#: KEYS: the bucket; ARGV: its size, tokens a second. Returns whether there was a token, and how many are left. Uses the
#: clock of Redis, since those of the processes may differ
TAKE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local most, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, before = tonumber(kept[1]) or most, tonumber(kept[2]) or at
left = math.min(most, left + math.max(0, at - before) * rate)
local taken = left >= 1
if taken then left = left - 1 end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.6f', at))
redis.call('EXPIRE', KEYS[1], 2 * 60)
return {taken and 1 or 0, string.format('%.6f', left)}
"""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The decision of a rate limit about one request."""

    allowed: bool
    #: requests a minute, which is also the largest burst
    limit: int
    #: tokens left after the request
    left: float

    @property
    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers."""
        full = math.ceil((self.limit - self.left) * WINDOW / self.limit)
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self.limit};w={WINDOW}',
            "RateLimit": f'"{POLICY}";r={int(self.left)};t={full}',
        }

    def check(self) -> None:
        """Raise unless the request is allowed.

        Raises:
            RateLimited: the tenant has used up its rate.
        """
        if not self.allowed:
            seconds = max(1, math.ceil((1 - self.left) * WINDOW / self.limit))
            raise RateLimited(
                f"More than {self.limit} requests came within a minute.",
                limit=self.limit,
                retry_after=seconds,
                extra={"limit_name": "requests_per_minute"},
            )


class Rates(Protocol):
    """Counts requests against rate limits."""

    async def take(self, tenant: str, per_minute: int) -> Taken:
        """Count one request of a tenant, and decide about it."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass
class MemoryRates:
    """Counts the requests of one process."""

    clock: Callable[[], float] = time.monotonic
    #: by key: tokens left at the last request, and its time
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def take(self, tenant: str, per_minute: int) -> Taken:
        now = self.clock()
        left, at = self._buckets.get(tenant, (float(per_minute), now))
        left = min(per_minute, left + (now - at) * per_minute / WINDOW)
        allowed = left >= 1
        left -= allowed
        if len(self._buckets) >= MOST_KEPT and tenant not in self._buckets:
            self._forget_full(now)
        self._buckets[tenant] = (left, now)
        return Taken(allowed=allowed, limit=per_minute, left=left)

    def _forget_full(self, now: float) -> None:
        """Remove full buckets: a bucket that was not used within a window is full again, whatever its size."""
        self._buckets = {tenant: kept for tenant, kept in self._buckets.items() if now - kept[1] < WINDOW}

    async def close(self) -> None:
        """Do nothing, since there are no connections."""


class RedisRates:
    """Counts the requests of several processes."""

    def __init__(self, url: str) -> None:
        self._redis = client(url, REDIS_TIMEOUT)
        self._script: Any = self._redis.register_script(TAKE)
        self._alone = MemoryRates()
        self._pause = Pause(log, "rates_counted_alone")

    async def take(self, tenant: str, per_minute: int) -> Taken:
        if not self._pause.is_on:
            try:
                keys, arguments = [f"pixtools:rate:{tenant}"], [per_minute, per_minute / WINDOW]
                allowed, left = await self._script(keys=keys, args=arguments)
                return Taken(allowed=bool(allowed), limit=per_minute, left=float(left))
            except REDIS_ERRORS as error:
                self._pause.begin(error)
        metrics.RATES_ALONE.inc()
        return await self._alone.take(tenant, per_minute)

    async def close(self) -> None:
        await self._redis.aclose()
