"""Files that only their owner may read: the database holds webhook secrets, the storage what users have sent."""

import os
from pathlib import Path

OTHERS = 0o077


def keep_new_files_private() -> None:
    """Whatever this process and its children make from now on is for their user alone."""
    os.umask(OTHERS)


def is_open(folder: Path) -> bool:
    """True if other users of the machine may look into a folder."""
    try:
        return bool(folder.stat().st_mode & OTHERS)
    except OSError:
        return False
