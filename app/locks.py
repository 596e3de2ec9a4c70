"""Advisory locks of PostgreSQL, shared by all processes that use the same database.

SQLite needs none: it is used by one process, with one writer at a time.
"""

from enum import IntEnum, unique

from sqlalchemy import text
from sqlalchemy.orm import Session


@unique
class AdvisoryLock(IntEnum):
    """The locks of the service; the numbers are arbitrary but unique."""

    #: one process at a time migrates the database
    MIGRATE = 7_104_220
    #: one process at a time runs the reconciler
    SWEEP = 7_104_221
    #: one transaction at a time registers an endpoint or rotates a key
    ENDPOINTS = 7_104_222
    #: one process at a time chooses whose turn it is
    TURNS = 7_104_223


def wait_for(session: Session, lock: AdvisoryLock) -> None:
    """Wait for a lock, and hold it until the end of the transaction."""
    if _has_locks(session):
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock.value})


def take(session: Session, lock: AdvisoryLock) -> bool:
    """Take a lock until the end of the transaction; returns False if another transaction holds it."""
    if not _has_locks(session):
        return True
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock.value}))


def _has_locks(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
