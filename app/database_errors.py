"""The meaning of a database error: the database is away, overloaded or full, or the statement is wrong.

The SQLSTATE or SQLite's result code decides, never the class of the error: drivers raise the same class for a broken
connection and for a misspelt column.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: the errors that `is_away` can classify
DATABASE_ERRORS = (DBAPIError, PoolTimeout)

AWAY_CLASSES = {
    "08",  # connection failed or lost
    "53",  # out of connections, memory or disk
}
AWAY_STATES = {
    "25006",  # read-only: a failover has made this server a standby
    "25P03",  # the transaction was idle for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # the lock was not free in time
    "57P01",  # the server is shutting down
    "57P02",  # the server crashed
    "57P03",  # the server is starting
    "57P05",  # the session was idle for too long
    "58030",  # I/O error
}
DISK_FULL = "53100"
SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,  # the file system was remounted read-only after an error
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,  # the lock of the write-ahead log was not free
}
SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_away(error: BaseException) -> bool:
    """True if the same statement may succeed later, because the error is not due to the statement."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return _primary(error.orig) in SQLITE_AWAY
    state = _sqlstate(error)
    if state is None:  # no response from the server
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return state in AWAY_STATES or state[:2] in AWAY_CLASSES


def is_full(error: BaseException) -> bool:
    """True if the database's disk is full."""
    if not isinstance(error, DBAPIError):
        return False
    return _primary(error.orig) == sqlite3.SQLITE_FULL or _sqlstate(error) == DISK_FULL


def is_damaged(error: BaseException) -> bool:
    """True if the file is a damaged SQLite database, or not a database at all."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return _primary(original) in SQLITE_DAMAGED


def name_of(error: BaseException) -> str:
    """A name for the log: SQLite's result code, the SQLSTATE or, without either, the class."""
    original = getattr(error, "orig", None)
    return str(
        getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None) or type(error).__name__
    )


def _primary(original: BaseException | None) -> int | None:
    """SQLite's primary result code, which is the low byte of the extended one."""
    code: int | None = getattr(original, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
