"""Objects as files in a folder: for the embedded mode, or on a file system that all processes of a cluster share."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import obstore
from obstore.store import LocalStore

from app.services.storage.object_store import READ_SIZE, ObstorePeer


@dataclass(frozen=True)
class LocalFolder(ObstorePeer):
    """An object store in a local folder."""

    folder: Path

    @cached_property
    def _client(self) -> LocalStore:
        return LocalStore(self.folder, mkdir=True, automatic_cleanup=True)

    def _upload(self, key: str, file: BinaryIO) -> None:
        if self._named(key, file):
            return
        file.seek(0)
        with self._stored(key):
            obstore.put(self._client, key, file, use_multipart=True, **self._parts)

    def _named(self, key: str, file: BinaryIO) -> bool:
        """Link an unnamed file into the folder instead of copying its bytes; returns whether that was possible.

        It is possible on Linux, within one file system, if the key is free.
        """
        path = self.folder / key
        try:
            file.flush()
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(path.parent, os.O_PATH)
        except OSError:
            return False
        try:
            # with `dst_dir_fd` Python calls linkat(2), which follows the symbolic link that the name in /proc is
            os.link(f"/proc/self/fd/{file.fileno()}", path.name, dst_dir_fd=folder)
        except OSError:
            return False
        finally:
            os.close(folder)
        return True

    @property
    def _parts(self) -> dict[str, Any]:
        return {"chunk_size": READ_SIZE, "max_concurrency": 1}

    def _attributes(self, attributes: dict[str, str]) -> dict[str, Any]:
        return {}  # a file has no attributes; the API sends them from the database

    def _read(self, key: str) -> tuple[int, Iterable[Any]]:
        path = self.folder / key
        return path.stat().st_size, _pieces(path)

    async def check_writing(self, key: str, content: bytes) -> None:
        """Write nothing: the folder's disk is checked by `Room`."""


def _pieces(path: Path) -> Iterator[bytes]:
    """The content of a file, in pieces that are larger than the 8 KB of obstore."""
    with path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            yield piece
