"""How many attempts of one process may be at the same host, so that a slow one does not hold all threads."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.services.breakers import HostPaused

SLOW_SECONDS = 1.0  # an attempt that takes longer makes its host a slow one
BUSY_SECONDS = 2.0  # that an attempt at a slow host without a free place is put off, at first
MOST_HOSTS = 1024  # that are remembered


@dataclass
class _Host:
    #: when each attempt that is under way began
    running: dict[int, float] = field(default_factory=dict)
    #: whether the last attempt took long
    slow: bool = False

    def is_slow(self) -> bool:
        oldest = min(self.running.values(), default=float("inf"))
        return self.slow or time.monotonic() - oldest > SLOW_SECONDS


class Shares:
    """The places of one process."""

    def __init__(self, most: int) -> None:
        """So many attempts may be at one host."""
        self._most = most
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._changed = threading.Condition()

    @contextmanager
    def one(self, origin: str) -> Iterator[None]:
        """A place among the attempts at a host; at one that answers quickly it is waited for.

        Raises:
            HostPaused: the host is slow and has no place left.
        """
        with self._changed:
            host = self._enter(origin)
        try:
            yield
        finally:
            with self._changed:
                self._leave(host)

    def _enter(self, origin: str) -> _Host:
        host = self._hosts.setdefault(origin, _Host())
        self._hosts.move_to_end(origin)
        deadline = time.monotonic() + SLOW_SECONDS
        while len(host.running) >= self._most:
            if host.is_slow() or not self._changed.wait(deadline - time.monotonic()):
                raise HostPaused(BUSY_SECONDS)
        host.running[threading.get_ident()] = time.monotonic()
        while len(self._hosts) > MOST_HOSTS:
            self._hosts.popitem(last=False)
        return host

    def _leave(self, host: _Host) -> None:
        began = host.running.pop(threading.get_ident())
        host.slow = time.monotonic() - began > SLOW_SECONDS
        self._changed.notify_all()
