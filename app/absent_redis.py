"""A Redis that is not asked for a while after it has failed."""

import logging
import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

PAUSE_SECONDS = 5.0  # before a Redis that has failed is asked again
#: the errors of a client; uvloop adds a RuntimeError for a connection that was closed since its last use
REDIS_ERRORS = (RedisError, OSError, RuntimeError)


def client(url: str, seconds: float) -> Redis:
    """A client with time-outs for the connection and for each answer."""
    return Redis.from_url(url, decode_responses=True, socket_timeout=seconds, socket_connect_timeout=seconds)


@dataclass
class Pause:
    """A pause after a failure, in which Redis is not asked."""

    log: logging.Logger
    #: of the log, for each failure
    event: str
    #: of the monotonic clock
    until: float = 0.0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.until

    def begin(self, error: Exception) -> None:
        self.until = time.monotonic() + PAUSE_SECONDS
        self.log.warning(self.event, extra={"error": type(error).__name__})
