"""The shutdown of a worker: running tasks get some time to end, and are then handed back.

Celery's warm shutdown takes no new tasks and waits for the running ones without limit. But a spot machine disappears
after two minutes: each running task would lose an attempt, and the time until its lease expires.
"""

import multiprocessing
import time
from typing import Any

_never = 0.0
#: time on the monotonic clock, which all processes of a machine share; None before the first worker of this process
_deadline: Any = None


def reset() -> None:
    """Forget an earlier shutdown; a worker calls this when it starts, before its pool forks."""
    global _deadline  # noqa: PLW0603
    _deadline = multiprocessing.Value("d", _never, lock=False)


def begin(seconds: float) -> None:
    """Start the shutdown: running tasks are handed back after `seconds`."""
    if _deadline is None:
        reset()
    _deadline.value = time.monotonic() + seconds


def is_over() -> bool:
    """Whether it is time to hand running tasks back."""
    deadline: float = _never if _deadline is None else _deadline.value
    return deadline != _never and time.monotonic() >= deadline
