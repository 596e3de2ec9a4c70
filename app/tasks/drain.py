"""The shutdown of a worker: running tasks get some time to end, and are then handed back.

Celery's warm shutdown takes no new tasks and waits for the running ones without limit. But a spot machine disappears
after two minutes: each running task would lose an attempt, and the time until its lease expires.
"""

import multiprocessing
import time

_never = 0.0
#: time on the monotonic clock, which all processes of a machine share; created before Celery forks its pool
_deadline = multiprocessing.Value("d", _never, lock=False)


def begin(seconds: float) -> None:
    """Start the shutdown: running tasks are handed back after `seconds`."""
    _deadline.value = time.monotonic() + seconds


def reset() -> None:
    """Forget an earlier shutdown, for a new worker in the same process."""
    _deadline.value = _never


def is_over() -> bool:
    """Whether it is time to hand running tasks back."""
    deadline: float = _deadline.value
    return deadline != _never and time.monotonic() >= deadline
