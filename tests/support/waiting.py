"""Waiting for conditions in other threads or processes."""

import time
from typing import Any


def until(what: Any, seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found
