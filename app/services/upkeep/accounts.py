"""Accounting for tenants: adds up the usage of ended jobs, and measures their storage."""

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.services.access import storage, usage
from app.services.upkeep.periodic import Periodic
from app.services.webhooks import events

STORAGE_SECONDS = 300.0  # between two measurements, by any process


class Accounts(Periodic):
    """Counts usage periodically; any number of processes may do so at once."""

    name = "accounts"
    unavailable = (SQLAlchemyError,)

    def __init__(self, database: Database, *, every_seconds: float) -> None:
        super().__init__(every_seconds)
        self._database = database

    def run_once(self) -> int:
        """Count all jobs that have ended, and measure the storage if due; returns the number of counted events."""
        counted = self._count()
        with self._database.session() as session:
            is_due = storage.is_due(session, STORAGE_SECONDS)
        if is_due:
            storage.measure(self._database)
        return counted

    def _count(self) -> int:
        """Assign numbers to new events and count them, each batch in its own transaction."""
        counted = 0
        while not self.stopping.is_set():
            with self._database.session(read_only=True) as session:
                is_numbered = not events.has_unnumbered(session)
            if not is_numbered:
                with self._database.session() as session:
                    events.number(session)
            with self._database.session() as session:
                batch = usage.aggregate(session)
            counted += batch
            if is_numbered and batch < usage.BATCH:
                break
        return counted
