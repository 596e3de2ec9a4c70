"""The tested share of a large corpus: a quarter with `make test`, all with `make test-full` (TEST_WHOLE=1)."""

import os

WHOLE = os.environ.get("TEST_WHOLE") == "1"
SHARE = 4


def sampled(count: int) -> int:
    """The number of cases to test out of `count`: all or a quarter."""
    return count if WHOLE else -(-count // SHARE)
