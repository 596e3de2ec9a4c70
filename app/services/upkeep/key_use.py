"""Records the last use of keys in the background, so that no request waits for it."""

from sqlalchemy.exc import SQLAlchemyError

from app.services.access.door import Door
from app.services.upkeep.periodic import Periodic

EVERY_SECONDS = 30.0


class KeyUse(Periodic):
    """Records the last use of keys that this process has seen."""

    name = "key_use"
    unavailable = (SQLAlchemyError,)

    def __init__(self, door: Door, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__(every_seconds)
        self._door = door

    def run_once(self) -> int:
        """Record the use of keys since the previous call; returns the number of keys."""
        return self._door.write_use()
