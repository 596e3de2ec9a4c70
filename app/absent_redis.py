"""A pause in the use of Redis after a failure."""

import logging
import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

PAUSE_SECONDS = 5.0  # time between a failure and the next request to Redis
#: errors of a client; with uvloop, a connection that was closed since its last use raises RuntimeError
REDIS_ERRORS = (RedisError, OSError, RuntimeError)


def client(url: str, seconds: float) -> Redis:
    """A Redis client with the same time-out for connecting and for each response, in seconds."""
    return Redis.from_url(url, decode_responses=True, socket_timeout=seconds, socket_connect_timeout=seconds)


@dataclass
class Pause:
    """A pause after a failure, during which Redis is not used."""

    log: logging.Logger
    #: name of the log event for each failure
    event: str
    #: end of the pause, on the monotonic clock
    until: float = 0.0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.until

    def begin(self, error: Exception) -> None:
        self.until = time.monotonic() + PAUSE_SECONDS
        self.log.warning(self.event, extra={"error": type(error).__name__})
