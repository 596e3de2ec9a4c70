"""Accounting of tenants: adds up what ended jobs have used, and measures what is stored."""

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.services.access import storage, usage
from app.services.upkeep.periodic import Periodic
from app.services.webhooks import events

STORAGE_SECONDS = 300.0  # between two measurements, of whichever processes


class Accounts(Periodic):
    """Counts again and again; any number of processes may do so at once."""

    name = "accounts"
    unavailable = (SQLAlchemyError,)

    def __init__(self, database: Database, *, every_seconds: float) -> None:
        super().__init__(every_seconds)
        self._database = database

    def run_once(self) -> int:
        """Count all that has ended by now, and measure if it is time; how many events that were."""
        counted = self._count()
        with self._database.session() as session:
            is_due = storage.is_due(session, STORAGE_SECONDS)
        if is_due:
            storage.measure(self._database)
        return counted

    def _count(self) -> int:
        """Each batch is a transaction; what has not been read yet gets its number first."""
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
