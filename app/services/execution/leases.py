"""Keeps the leases of all tasks that this process runs, in one thread."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

Renew = Callable[[], bool]


class LeaseKeeper:
    """Renews leases at intervals; its thread ends when there is no lease left."""

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._kept: dict[threading.Event, Renew] = {}
        self._runs = False

    @contextmanager
    def keep(self, renew: Renew) -> Iterator[threading.Event]:
        """Renew one lease while the body runs.

        Args:
            renew: extends the lease; returns False if it is lost.

        Yields:
            An event that is set when the lease is lost.
        """
        lost = threading.Event()
        with self._lock:
            if not self._runs:  # set only after the start, so that after a failure the next lease tries again
                threading.Thread(target=self._run, name="leases", daemon=True).start()
                self._runs = True
            self._kept[lost] = renew
        try:
            yield lost
        finally:
            with self._lock:
                del self._kept[lost]

    def _run(self) -> None:
        while kept := self._after_a_pause():
            for lost, renew in kept.items():
                if not lost.is_set() and not _renewed(renew):
                    lost.set()

    def _after_a_pause(self) -> dict[threading.Event, Renew]:
        time.sleep(self._every_seconds)
        with self._lock:
            self._runs = bool(self._kept)
            return dict(self._kept)


def _renewed(renew: Renew) -> bool:
    try:
        return renew()
    except Exception:  # an error must not end the thread, which keeps all leases of this process
        log.exception("lease_renewal_failed")
        return True
