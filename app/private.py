"""Keeps files private to their owner: the database contains secrets, and the storage users' files."""

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
