"""Writes refused requests of known keys to the audit log, in the background, once per key, code and minute."""

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.services.access import audit
from app.services.access.audit import Refusal
from app.services.upkeep.periodic import Periodic

EVERY_SECONDS = 1.0
MOST = 10_000  # refusals that wait to be written; further ones are not noted


class Refusals(Periodic):
    """The refusals of one API process. If the process is killed, those of the last second are lost."""

    name = "refusals"
    unavailable = (SQLAlchemyError,)

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(EVERY_SECONDS)
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        #: refusals of this minute
        self._noted: set[Refusal] = set()
        self._waiting: list[Refusal] = []

    def note(self, *, tenant: str, key_id: str, code: str) -> None:
        """Note a refused request in memory."""
        minute = int(self._clock() // 60)
        refusal = Refusal(tenant=tenant, key_id=key_id, code=code, minute=minute)
        with self._lock:
            if minute != self._minute:
                self._minute, self._noted = minute, set()
            if refusal not in self._noted and len(self._waiting) < MOST:
                self._noted.add(refusal)
                self._waiting.append(refusal)

    def run_once(self) -> int:
        """Write the noted refusals; returns their number."""
        with self._lock:
            refusals = self._waiting[: audit.PAGE]
        if refusals:
            with self._database.session() as session:
                audit.note_refusals(session, refusals)
            with self._lock:
                del self._waiting[: len(refusals)]
        return len(refusals)

    def stop(self, timeout: float = 5.0) -> None:
        super().stop(timeout)
        try:
            self.run_once()
        except self.unavailable:
            return  # the process ends; its log has the refusals as well
