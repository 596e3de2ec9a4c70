"""Runs migrations against the database of the settings."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from alembic import context
from app import models  # noqa: F401 - fills Base.metadata
from app.config import Settings
from app.database import Base, Database

LOCK = 7_104_220  # any constant: two processes that start at once must not both migrate
LOCK_TIMEOUT = "5s"  # a migration must not queue behind a long query and block everything behind itself


@contextmanager
def _alone(database: Database, connection: Connection) -> Iterator[None]:
    if not database.is_sqlite:
        connection.execute(text("SET lock_timeout = 0"))  # another migrator may take minutes: it is waited for
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        yield
        return
    with Path(f"{database.url().database}.migration-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run() -> None:
    database = Database(context.config.attributes.get("database_url") or Settings().database)
    if database.is_sqlite:
        Path(str(database.url().database)).parent.mkdir(parents=True, exist_ok=True)
    with database.engine.connect() as connection, connection.begin(), _alone(database, connection):
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=database.is_sqlite)
        context.run_migrations()
    database.close()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database; offline SQL is not supported.")
run()
