"""Runs migrations against the database of the settings."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from alembic import context
from app import models  # noqa: F401 - fills Base.metadata
from app.config import Settings
from app.database import Base, Database
from app.locks import AdvisoryLock
from app.migrations import LOCK_TIMEOUT

PAUSE = 0.5  # seconds; another migrator may take minutes


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    if not database.is_sqlite:
        # in a session of its own: the migrations themselves may need several transactions
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Asked for again and again: an index that is made while others write waits for every statement that runs,
            # also for one that waits for this lock
            while not connection.scalar(text(f"SELECT pg_try_advisory_lock({AdvisoryLock.MIGRATE.value})")):
                time.sleep(PAUSE)
            yield
            connection.execute(text(f"SELECT pg_advisory_unlock({AdvisoryLock.MIGRATE.value})"))
        return
    with Path(f"{database.url().database}.migration-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # SQLite changes a column by making the table anew; dropping the old one must not take what refers to it along.
        # Only outside transactions, therefore not by SQLAlchemy.
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
        return
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()


def _check(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and (broken := connection.execute(text("PRAGMA foreign_key_check")).all()):
        raise RuntimeError(f"The migration would leave rows without what they refer to: {broken[:10]}")


def run() -> None:
    database = Database(context.config.attributes.get("database_url") or Settings().database)
    if database.is_sqlite:
        Path(str(database.url().database)).parent.mkdir(parents=True, exist_ok=True)
    with _alone(database), database.engine.connect() as connection:
        _prepare(connection)
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=database.is_sqlite,
            # a file is changed as a whole or not at all; PostgreSQL makes indexes while others write only outside of
            # one
            transaction_per_migration=not database.is_sqlite,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
            _check(connection)
    database.close()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database; offline SQL is not supported.")
run()
