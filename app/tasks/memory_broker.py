"""The broker of the embedded mode: kombu's in memory, whose consumers wait for messages.

kombu's own looks for them again and again: how often is a choice between the latency of every job and the CPU time of a
process that has nothing to do.
"""

import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import memory

LONGEST_WAIT = 60.0  # seconds


class _Changes:
    """Wakes consumers when there may be something for them: a message, or a place for another one."""

    def __init__(self) -> None:
        self.count = 0
        #: whether consumers are to wait for nothing more
        self.interrupted = False
        self._changed = threading.Condition()

    def note(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def interrupt(self, *, on: bool = True) -> None:
        """Let no consumer wait, so that its worker sees at once that it has to stop."""
        self.interrupted = on
        self.note()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when there were more than have been seen, or so many seconds are over."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen, seconds)


CHANGES = _Changes()  # of the process, like the queues


class Channel(memory.Channel):  # type: ignore[misc]  # untyped base
    """Notes what may move a consumer."""

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        super()._put(queue, message, **options)
        CHANGES.note()

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        super().basic_ack(delivery_tag, multiple)
        CHANGES.note()

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        super().basic_reject(delivery_tag, requeue)
        CHANGES.note()


class Transport(memory.Transport):  # type: ignore[misc]  # untyped base
    """`memory://` without polling."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message.

        Raises:
            TimeoutError: there was none for so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = CHANGES.count  # before the look: what comes during it is not missed
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
                if left <= 0 or CHANGES.interrupted:
                    raise TimeoutError from None
                CHANGES.wait(seen, left)
            else:
                return
