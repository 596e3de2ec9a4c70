"""Databases with the current schema: copies of one that was migrated, because a copy takes far less time."""

import shutil
import threading
from pathlib import Path

from app import migrations

from .servers import PostgreSQL

MIGRATED = "migrated"

_lock = threading.Lock()


def migrated_database(server: PostgreSQL, name: str) -> str:
    """Create a database on a server; returns its URL."""
    with _lock:
        if not server.has_database(MIGRATED):
            migrations.upgrade(server.create_database(f"{MIGRATED}-just-now"))
            server.rename_database(f"{MIGRATED}-just-now", MIGRATED)
    return server.create_database(name, template=MIGRATED)


def migrated_file(path: Path, original: Path) -> str:
    """Create a SQLite database as a copy of the original, which is migrated on first use; returns its URL."""
    with _lock:
        if not original.exists():
            migrations.upgrade(f"sqlite:///{original}.new")
            Path(f"{original}.new").rename(original)
    shutil.copy(original, path)
    return f"sqlite:///{path}"
