"""The shutdown of a worker: its running tasks get some time to end, and are then handed back.

Celery's warm shutdown takes no new tasks and waits for the running ones without limit. A spot machine disappears after
two minutes, though: that would cost each running task an attempt, and its job the time until this is noticed.
"""

import multiprocessing
import time

_never = 0.0
#: time on the monotonic clock, which all processes of a machine share; created before Celery forks its pool
_deadline = multiprocessing.Value("d", _never, lock=False)


def begin(seconds: float) -> None:
    """Have running tasks handed back after so many seconds."""
    _deadline.value = time.monotonic() + seconds


def reset() -> None:
    """Forget the shutdown: a new worker begins in a process that had one before."""
    _deadline.value = _never


def is_over() -> bool:
    """Whether it is time to hand running tasks back."""
    deadline: float = _deadline.value
    return deadline != _never and time.monotonic() >= deadline
