"""Folders as stores, at or below a root that the operator has named; symbolic links are not followed.

The key comes from a tenant, and other programs may also write to the folder. So no whole path is ever opened: each name
is opened relative to the folder before it, and links are refused. Even a change in between cannot lead out of the root.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from app.services.storage.object_store import READ_SIZE, Reading

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: non-blocking, since opening a pipe without a writer would wait
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DRAFT = ".pixtools-draft"  # suffix of a file while it is written
LINKS = (errno.ELOOP, errno.ENOTDIR)  # errors for a link, or for a file in the place of a folder


@dataclass(frozen=True)
class Folder:
    """A folder whose files are objects."""

    #: named by the operator; may itself be a link
    root: Path
    #: path from the root to the folder
    names: tuple[str, ...]

    def check(self) -> None:
        """Check that the folder exists.

        Raises:
            OSError: the folder does not exist, or its path contains a link.
        """
        with self._opened(()):
            pass

    def read(self, key: str) -> Reading:
        """Start reading a file.

        Raises:
            FileNotFoundError: there is no regular file under the key; a link is not one.
            OSError: the file cannot be read.
        """
        try:
            with self._parent(key) as (folder, name):
                number = os.open(name, FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in {*LINKS, errno.ENXIO, errno.ENAMETOOLONG}:
                raise FileNotFoundError(errno.ENOENT, "no regular file") from None
            raise
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            os.close(number)
            raise FileNotFoundError(errno.ENOENT, "no regular file")
        file = os.fdopen(number, "rb")
        return Reading(
            size=found.st_size,
            etag=f'"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"',
            pieces=iter(partial(file.read, READ_SIZE), b""),
            close=file.close,
        )

    def write(self, key: str, source: Path, *, replace: bool) -> None:
        """Write a file under its key, completely or not at all; missing folders are created.

        The file gets the permissions of its folder, so that other programs can use it; by default, files of this
        process are private.

        Raises:
            FileExistsError: the file exists, and `replace` is false.
            PermissionError: there is a link or a file instead of a folder, or a folder instead of the file.
            OSError: the file cannot be written.
        """
        with self._parent(key, make=True) as (folder, name):
            if not replace and _is_there(name, folder):
                raise FileExistsError(errno.EEXIST, "there is a file")
            draft = f".{uuid4().hex}{DRAFT}"
            try:
                _copy(source, draft, folder)
                if replace:
                    os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                if error.errno in {errno.EISDIR, errno.ENAMETOOLONG}:
                    raise PermissionError(error.errno, "no file can have this name") from None
                raise
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)

    @contextmanager
    def _parent(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder of a file; yields its descriptor, and the name of the file in it."""
        *names, name = key.split("/")
        with self._opened(tuple(names), make=make) as folder:
            yield folder, _checked(name)

    @contextmanager
    def _opened(self, below: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """Open a folder below this one, name by name; yields its descriptor."""
        folder = os.open(self.root, FOLDER & ~os.O_NOFOLLOW)
        try:
            for number, name in enumerate((*self.names, *below)):
                last, folder = folder, _enter(folder, _checked(name), make=make and number >= len(self.names))
                os.close(last)
            yield folder
        finally:
            os.close(folder)


def _checked(name: str) -> str:
    if name in {"", ".", ".."} or "\0" in name:
        raise FileNotFoundError(errno.ENOENT, "not the name of a file")
    return name


def _enter(folder: int, name: str, *, make: bool) -> int:
    """Open a folder in a folder; returns its descriptor.

    Raises:
        PermissionError: the name is that of a link or a file.
        OSError: the folder cannot be opened or created.
    """
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        if error.errno in LINKS:
            raise PermissionError(error.errno, "a link or a file is in the place of a folder") from None
        raise
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:  # another process makes it at the same time
        return _enter(folder, name, make=False)
    made = _enter(folder, name, make=False)
    os.fchmod(made, stat.S_IMODE(os.fstat(folder).st_mode))
    return made


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _copy(source: Path, draft: str, folder: int) -> None:
    with source.open("rb") as made, os.fdopen(os.open(draft, NEW, 0o600, dir_fd=folder), "wb") as file:
        shutil.copyfileobj(made, file, READ_SIZE)
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(folder).st_mode) & 0o666)
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut could leave a file without its bytes
