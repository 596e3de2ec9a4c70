"""Bringing a database to the current schema."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, OperationalError

from alembic import command, op
from app.database import Database
from app.database_errors import is_damaged, name_of
from app.errors import CannotStart

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
LOCK_TIMEOUT = "5s"  # a migration must not queue behind a long query and block everything behind itself


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply the missing migrations; safe to call at every start and by several processes."""
    config = _config()
    config.attributes["database_url"] = database_url
    command.upgrade(config, revision)


@contextmanager
def online() -> Iterator[None]:
    """Outside a transaction on PostgreSQL: indexes are made and dropped while others write.

    That waits until all earlier transactions have ended, and delays no others.
    """
    if op.get_context().dialect.name == "sqlite":
        yield
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        yield
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def check(database_url: str) -> None:
    """Check whether a database in a file can be used at all.

    Raises:
        CannotStart: says what to do.
    """
    _config()
    database = Database(database_url)
    if not database.is_sqlite:
        return
    path = Path(str(database.url().database))
    try:
        if path.exists() and (here := state(database_url)[0]) and here not in _revisions():
            raise CannotStart(
                f"The database {path} belongs to a later version of PixTools (revision {here}): start that version, or "
                "restore the backup from before the upgrade."
            )
    except DBAPIError as error:
        if is_damaged(error):
            raise CannotStart(
                f"The database {path} is damaged ({name_of(error)}): restore it from a backup, or move it and its "
                "-wal and -shm files away to begin with an empty one."
            ) from None
        raise CannotStart(f"The database {path} cannot be used: {error.orig}.") from None


def state(database_url: str) -> tuple[str | None, str | None]:
    """The revision that a database has, and the one that this version needs."""
    database = Database(database_url)
    try:
        with database.engine.connect() as connection:
            here = MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()
    return here, ScriptDirectory.from_config(_config()).get_current_head()


def wait(database_url: str, *, pause: float = 2.0) -> None:
    """Poll until other processes have brought the database to the revision that this version needs."""
    while not _is_ready(database_url):
        time.sleep(pause)


def _is_ready(database_url: str) -> bool:
    try:
        here, head = state(database_url)
    except OperationalError as error:
        log.warning("database_away", extra={"error": type(error.orig).__name__})
        return False
    log.info("schema_seen", extra={"revision": here, "needed": head})
    # A revision that this version does not know is of a later one, whose rollout is under way.
    return here == head or not (here is None or here in _revisions())


def _revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    if not (ROOT / "alembic.ini").is_file():
        raise CannotStart(
            "The folders alembic and models are missing next to the code: PixTools runs from its source tree "
            "(`make run`) or its container images."
        )
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "alembic"))
    return config
