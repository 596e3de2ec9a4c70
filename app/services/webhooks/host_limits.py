"""Limits of a process's simultaneous attempts at one host, so that slow hosts do not occupy all threads.

There is a limit for each host. All hosts of one registrable domain together have twice that limit, and all hosts that
are slow or unknown together have half of the threads. A few attempts wait for a free slot, and only at a host that
answers quickly; any other attempt is rescheduled, and its thread is free at once.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.services.webhooks.breakers import HostPaused
from app.services.webhooks.resolver import site_of

SLOW_SECONDS = 1.0  # an attempt that takes longer marks its host as slow
BUSY_SECONDS = 1.0  # an attempt without a slot is put off for at least so long
LONGEST_LINE = 300.0  # seconds: an attempt is not put off for longer, since the host may become quick again
MOST_HOSTS = 1024  # hosts that are remembered


@dataclass
class _Host:
    site: str
    #: duration of the last attempt; None: there was none
    seconds: float | None = None
    #: when the last postponed attempt may be made
    line: float = 0.0


@dataclass(frozen=True)
class _Attempt:
    origin: str
    host: _Host
    began: float

    def is_slow(self) -> bool:
        """Whether this attempt, or the last one at the same host, takes long."""
        return (self.host.seconds or 0) > SLOW_SECONDS or time.monotonic() - self.began > SLOW_SECONDS

    def may_be_slow(self) -> bool:
        """Whether the host is slow or unknown."""
        return self.host.seconds is None or self.is_slow()


class HostLimits:
    """The slots of one process for attempts."""

    def __init__(self, most: int, threads: int) -> None:
        """Set up without attempts.

        Args:
            most: most simultaneous attempts at one host.
            threads: number of threads that make attempts.
        """
        self._most = most
        self._most_slow = max(most, threads // 2)
        self._most_waiting = threads // 4
        self._waiting = 0
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._running: dict[int, _Attempt] = {}  # attempts by id of their thread
        self._changed = threading.Condition()

    @contextmanager
    def one(self, origin: str) -> Iterator[None]:
        """Hold a slot for an attempt at a host.

        Raises:
            HostPaused: no slot is free; the error has the seconds until the caller's turn.
        """
        with self._changed:
            self._enter(origin)
        asked = True
        try:
            yield
        except HostPaused:
            asked = False  # the breaker raised this at once, which says nothing about the host's speed
            raise
        finally:
            with self._changed:
                self._leave(asked=asked)

    def _enter(self, origin: str) -> None:
        host = self._host(origin)
        attempt = _Attempt(origin, host, time.monotonic())
        if not self._has_place(attempt) and not self._wait_for_place(attempt):
            raise HostPaused(self._queue_up(host), grows=False)
        self._running[threading.get_ident()] = _Attempt(origin, host, time.monotonic())

    def _host(self, origin: str) -> _Host:
        host = self._hosts.setdefault(origin, _Host(site_of(urlsplit(origin).hostname or "")))
        self._hosts.move_to_end(origin)
        if len(self._hosts) > MOST_HOSTS:
            self._hosts.popitem(last=False)
        return host

    def _has_place(self, attempt: _Attempt) -> bool:
        running = self._running.values()
        origins = Counter(other.origin for other in running)
        sites = Counter(other.host.site for other in running)
        if origins[attempt.origin] >= self._most or sites[attempt.host.site] >= 2 * self._most:
            return False
        if not attempt.may_be_slow():
            return True
        slow = [other.host.site for other in running if other.may_be_slow()]
        return len(slow) < self._most_slow and slow.count(attempt.host.site) < self._most

    def _wait_for_place(self, attempt: _Attempt) -> bool:
        deadline = time.monotonic() + SLOW_SECONDS
        if self._waiting >= self._most_waiting or self._is_held_up(attempt):
            return False
        self._waiting += 1
        try:
            while self._changed.wait(deadline - time.monotonic()):
                if self._has_place(attempt):
                    return True
                if self._is_held_up(attempt):
                    return False
            return False
        finally:
            self._waiting -= 1

    def _is_held_up(self, attempt: _Attempt) -> bool:
        """Whether no slot will be free soon, because the host or another one of its domain is slow."""
        return attempt.is_slow() or any(
            other.is_slow() for other in self._running.values() if other.host.site == attempt.host.site
        )

    def _queue_up(self, host: _Host) -> float:
        """Take the next turn; returns the seconds until then. Turns follow at the rate at which the host answers."""
        now = time.monotonic()
        turn = max(host.line, now + BUSY_SECONDS) + (host.seconds or BUSY_SECONDS) / self._most
        host.line = min(turn, now + LONGEST_LINE)
        return host.line - now

    def _leave(self, *, asked: bool) -> None:
        attempt = self._running.pop(threading.get_ident())
        if asked:
            attempt.host.seconds = time.monotonic() - attempt.began
        self._changed.notify_all()
