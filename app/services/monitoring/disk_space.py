"""Free space on the local disks. Below a minimum no upload is accepted, so that accepted work can use the rest."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.errors import NoRoom

RETRY_AFTER = 30  # seconds
SAMPLE = bytes(4096)  # one block, which a probe writes


@dataclass(frozen=True)
class Room:
    """The folders that this process writes to, and the required free space in each, in bytes."""

    folders: tuple[Path, ...]
    least: int

    def check(self) -> None:
        """Check the free space.

        Raises:
            NoRoom: a folder has less than the minimum.
            OSError: a folder cannot be examined.
        """
        free = min(map(_free, self.folders))
        if free < self.least:
            detail = f"The server has {free} bytes free on a disk and keeps {self.least} for accepted work."
            raise NoRoom(detail, limit=self.least, value=free, retry_after=RETRY_AFTER)

    def probe(self) -> None:
        """Check the free space also by writing, since a read-only disk or one with a quota may report free space.

        Raises:
            NoRoom: a folder has less than the minimum.
            OSError: a folder cannot be written to.
        """
        self.check()
        for folder in self.folders:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(SAMPLE)


def _free(folder: Path) -> int:
    """The free space of a folder in bytes; 0 if no file can be created."""
    try:
        status = os.statvfs(folder)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.statvfs(folder)
    has_files_left = status.f_files == 0 or status.f_favail > 0  # some file systems do not count them
    return status.f_bavail * status.f_frsize if has_files_left else 0
