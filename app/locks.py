"""Advisory locks of PostgreSQL, which every process that uses the same database shares.

SQLite needs none: it has one process, and one writer at a time.
"""

from enum import IntEnum, unique

from sqlalchemy import text
from sqlalchemy.orm import Session


@unique
class AdvisoryLock(IntEnum):
    """Each lock of the service; the numbers mean nothing, and differ."""

    #: one process at a time migrates the database
    MIGRATE = 7_104_220
    #: one process at a time runs the reconciler
    SWEEP = 7_104_221
    #: one transaction at a time registers an endpoint or rotates a key
    ENDPOINTS = 7_104_222
    #: one process at a time chooses whose turn it is
    TURNS = 7_104_223


def wait_for(session: Session, lock: AdvisoryLock) -> None:
    """Hold a lock until the end of the transaction."""
    if _has_locks(session):
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock.value})


def take(session: Session, lock: AdvisoryLock) -> bool:
    """Hold a lock until the end of the transaction, unless another one has it: False."""
    if not _has_locks(session):
        return True
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock.value}))


def _has_locks(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
