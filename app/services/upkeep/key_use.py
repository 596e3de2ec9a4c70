"""Records when keys were last used, in the background: no request waits or commits for that."""

from sqlalchemy.exc import SQLAlchemyError

from app.services.access.door import Door
from app.services.upkeep.periodic import Periodic

EVERY_SECONDS = 30.0


class KeyUse(Periodic):
    """The last use of the keys that this process has seen."""

    name = "key_use"
    unavailable = (SQLAlchemyError,)

    def __init__(self, door: Door, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__(every_seconds)
        self._door = door

    def run_once(self) -> int:
        """Write the keys used since the last call; returns how many."""
        return self._door.write_use()
