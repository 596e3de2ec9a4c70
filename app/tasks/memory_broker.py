"""The broker of the embedded mode: kombu's broker in memory, with consumers that wait for messages.

kombu's own consumers poll, so their interval is a compromise between the latency of jobs and the CPU time of an idle
process.
"""

import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import memory

LONGEST_WAIT = 60.0  # seconds


class _Changes:
    """Wakes consumers when there may be work for them: a new message, or room for a further one."""

    def __init__(self) -> None:
        self.count = 0
        #: True: consumers must not wait any more
        self.interrupted = False
        self._changed = threading.Condition()

    def note(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def interrupt(self, *, on: bool = True) -> None:
        """End all waits, so that workers notice at once that they have to stop."""
        self.interrupted = on
        self.note()

    def wait(self, seen: int, seconds: float) -> None:
        """Wait until there are more than `seen` changes, or `seconds` are over."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen, seconds)


CHANGES = _Changes()  # one for the process, like the queues


class Channel(memory.Channel):  # type: ignore[misc]  # untyped base
    """A channel that notes changes which may give a consumer work."""

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
    """The transport `memory://` without polling."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message.

        Raises:
            TimeoutError: there was no message within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = CHANGES.count  # read before polling, so that changes during the poll are not missed
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
                if left <= 0 or CHANGES.interrupted:
                    raise TimeoutError from None
                CHANGES.wait(seen, left)
            else:
                return
