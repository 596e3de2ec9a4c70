"""Rotation of all secrets in the database: counts those encrypted with another key, and encrypts them again."""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from app.database import Database
from app.services import sources, stores
from app.services.webhooks import sealing
from app.services.webhooks.sealing import Rotation

#: for each kind of row: a function that counts rows encrypted with an old key, and one that re-encrypts a batch of them
KINDS: tuple[tuple[Callable[[Session], int], Callable[..., Rotation]], ...] = (
    (sealing.outdated, sealing.rotate),
    (sources.outdated, sources.rotate),
    (stores.outdated, stores.rotate),
)


def outdated(session: Session) -> int:
    """The number of secrets that are not encrypted with the current key."""
    return sum(count(session) for count, _ in KINDS)


def rotate_all(database: Database) -> Rotation:
    """Encrypt all secrets with the current key, each batch in its own transaction; can be repeated if interrupted."""
    done = [_rotate_kind(database, rotate) for _, rotate in KINDS]
    return Rotation(sealed=sum(each.sealed for each in done), unreadable=sum(each.unreadable for each in done))


def _rotate_kind(database: Database, rotate: Callable[..., Rotation]) -> Rotation:
    sealed = unreadable = 0
    last: Any = None
    while True:
        with database.session() as session:
            batch = rotate(session) if last is None else rotate(session, last)
        sealed, unreadable, last = sealed + batch.sealed, unreadable + batch.unreadable, batch.last
        if last is None:
            return Rotation(sealed=sealed, unreadable=unreadable)
