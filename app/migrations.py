"""Bringing a database to the current schema."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from alembic import command
from app.database import Database

ROOT = Path(__file__).resolve().parent.parent


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing; safe to call at every start and by several processes."""
    config = _config()
    config.attributes["database_url"] = database_url
    command.upgrade(config, revision)


def state(database_url: str) -> tuple[str | None, str | None]:
    """The revision that a database has, and the one that this version needs."""
    database = Database(database_url)
    try:
        with database.engine.connect() as connection:
            here = MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()
    return here, ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "alembic"))
    return config
