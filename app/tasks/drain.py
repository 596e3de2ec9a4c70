"""What a worker that has to stop does with its running tasks: it lets them end for a while, then hands them back.

Celery's warm shutdown takes no new tasks and waits for the running ones, for ever. A spot machine is gone after two
minutes, whatever still runs: that would cost the task an attempt, and its job the time until that is noticed.
"""

import multiprocessing
import time

_never = 0.0
#: of the monotonic clock, which all processes of a machine share; made before Celery forks its pool
_deadline = multiprocessing.Value("d", _never, lock=False)


def begin(seconds: float) -> None:
    """From so many seconds on, running tasks are handed back."""
    _deadline.value = time.monotonic() + seconds


def reset() -> None:
    """A worker begins in a process that had one before."""
    _deadline.value = _never


def is_over() -> bool:
    """Whether it is time to hand back what runs."""
    deadline: float = _deadline.value
    return deadline != _never and time.monotonic() >= deadline
