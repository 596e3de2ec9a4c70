"""How much of a large corpus is tested: a part by `make test`, all of it by `make test-full`, which sets a variable."""

import os

WHOLE = os.environ.get("TEST_WHOLE") == "1"
SHARE = 4


def sampled(count: int) -> int:
    """So many, or a quarter of them."""
    return count if WHOLE else -(-count // SHARE)
