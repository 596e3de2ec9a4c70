"""Brings a database to the current schema.

Alembic is loaded only if there is something to migrate: that is once per version, and loading it takes a fifth of the
start.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.database import Database
from app.database_errors import is_damaged, name_of
from app.errors import CannotStart

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
LOCK_TIMEOUT = "5s"  # a migration must not queue behind a long query and block everything behind itself
#: the two lines of a migration that name its own revision and the previous one
REVISION = re.compile(r"""^(?:down_)?revision = (?:["'](\w+)["']|None)$""", re.MULTILINE)


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply the missing migrations; safe to call at every start and by several processes."""
    if revision == "head" and _revision(database_url) == _head():
        return
    from alembic import command, config  # noqa: PLC0415

    command.upgrade(config.Config(ROOT / "alembic.ini", attributes={"database_url": database_url}), revision)


@contextmanager
def online() -> Iterator[None]:
    """Run statements outside of a transaction on PostgreSQL, to create or drop indexes while other processes write.

    The statements wait until all earlier transactions have ended, but do not block later ones.
    """
    from alembic import op  # noqa: PLC0415 - loaded where migrations run

    if op.get_context().dialect.name == "sqlite":
        yield
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        yield
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def check(database_url: str) -> None:
    """Check that a SQLite database can be used; a PostgreSQL database is not checked.

    Raises:
        CannotStart: the file is damaged, unusable or of a later version; the message says what to do.
    """
    known = _before()
    database = Database(database_url)
    if not database.is_sqlite:
        return
    path = Path(str(database.url().database))
    try:
        if (here := _revision(database_url)) and here not in known:
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


def state(database_url: str) -> tuple[str | None, str]:
    """The revision of a database, and the one that this version needs."""
    return _revision(database_url), _head()


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
    return here == head or not (here is None or here in _before())


def _revision(database_url: str) -> str | None:
    """The revision of a database; None: it is empty or does not exist."""
    database = Database(database_url)
    if database.is_sqlite and not Path(str(database.url().database)).exists():
        return None  # a query would create the file
    try:
        with database.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            here: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return here
    finally:
        database.close()


def _head() -> str:
    """The revision that this version needs: the last migration."""
    before = _before()
    [head] = before.keys() - before.values()
    return head


@cache  # the files do not change while a process runs, and its start needs them twice
def _before() -> dict[str, str]:
    """All revisions, each with the one before it; for the first one, that is an empty text.

    Raises:
        CannotStart: the files of the migrations are missing.
    """
    files = list((ROOT / "alembic" / "versions").glob("*.py"))
    if not files:
        raise CannotStart(
            "The folders alembic and models are missing next to the code: PixTools runs from its source tree "
            "(`make run`) or its container images."
        )
    return dict(REVISION.findall(file.read_text()) for file in files)
