"""Waiting for conditions in other threads or processes."""

import time
from typing import Any


def until(what: Any, seconds: float = 90) -> Any:
    """Ask until the answer is true; returns it. A busy machine has time: only a failure waits to the end."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found
