"""The share of a large corpus that is tested: a quarter by `make test`, all by `make test-full` (TEST_WHOLE=1)."""

import os

WHOLE = os.environ.get("TEST_WHOLE") == "1"
SHARE = 4


def sampled(count: int) -> int:
    """The number to test of `count`: all, or a quarter."""
    return count if WHOLE else -(-count // SHARE)
