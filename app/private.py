"""Files that only their owner may read: the database has webhook secrets, the storage has users' files."""

import os
from pathlib import Path

OTHERS = 0o077


def keep_new_files_private() -> None:
    """Make all files that this process and its children create from now on private to their user."""
    os.umask(OTHERS)


def is_open(folder: Path) -> bool:
    """True if other users of the machine may read a folder."""
    try:
        return bool(folder.stat().st_mode & OTHERS)
    except OSError:
        return False
