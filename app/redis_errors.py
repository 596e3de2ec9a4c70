"""What an asynchronous client of Redis raises while Redis is away."""

from redis.exceptions import RedisError

#: uvloop raises a RuntimeError for a connection that was closed since it was used last
REDIS_ERRORS = (RedisError, OSError, RuntimeError)
