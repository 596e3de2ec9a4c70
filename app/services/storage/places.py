"""The places that stores connect to: users' buckets, and folders on the server's machine."""

import errno
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from app.formats import HTML
from app.services.storage.destinations import FILE, Connection, open_bucket, read
from app.services.storage.filenames import content_disposition
from app.services.storage.folders import Folder
from app.services.storage.object_store import PARALLEL_PARTS, PART_SIZE, CloudClient, Reading

MARK = "pixtools"  # name of the metadata with a writer's mark
DENIED = ("403 Forbidden", "401 Unauthorized")
FAULTS = (BaseError, OSError)  # errors that access to a place raises


@dataclass(frozen=True, kw_only=True)
class NewObject:
    """A file to write to a place, with its metadata."""

    path: Path
    sha256: str
    content_type: str
    filename: str
    cache_control: str | None
    #: lets the writer recognize its object
    mark: str


class Taken(Exception):
    """Another object already has this key."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Reads and writes objects in places; every method may raise the errors in `FAULTS`."""

    #: folders that stores may be at or below
    roots: tuple[Path, ...] = ()

    def read(self, connection: Connection, key: str) -> Reading:
        """Start reading an object."""
        if connection.scheme == FILE:
            return self.folder(connection).read(key)
        return read(open_bucket(connection), key)

    def write(self, connection: Connection, key: str, new: NewObject, *, replace: bool) -> None:
        """Write an object; an existing object with the same mark counts as written.

        Raises:
            Taken: another object has the key, and `replace` is false. The file was not sent, unless the other object
                was written at the same moment.
        """
        if connection.scheme == FILE:
            _write_file(self.folder(connection), key, new, replace=replace)
        elif replace:
            options: Any = {"chunk_size": PART_SIZE, "max_concurrency": PARALLEL_PARTS}
            obstore.put(open_bucket(connection), key, new.path, attributes=_attributes(new), **options)
        else:
            _create(open_bucket(connection), key, new)

    def folder(self, connection: Connection) -> Folder:
        """The folder of a connection.

        Raises:
            PermissionError: the folder is not at or below a root.
        """
        path = Path(unquote(urlsplit(connection.url).path))
        for root in self.roots:
            if path.is_relative_to(root) and ".." not in path.parts:
                return Folder(root, path.relative_to(root).parts)
        raise PermissionError(errno.EACCES, "not below a folder of PIXTOOLS_FILE_STORE_ROOTS")


def is_missing(error: Exception) -> bool:
    """Whether an error means that there is no such object."""
    return isinstance(error, FileNotFoundError)


def is_denied(error: Exception) -> bool:
    """Whether an error means that the place denies access."""
    kinds = (PermissionError, PermissionDeniedError, UnauthenticatedError)
    return isinstance(error, kinds) or any(code in str(error) for code in DENIED)


def _disposition(new: NewObject) -> str:
    """The `Content-Disposition` of an object: images may be shown; markup, which may run scripts, is downloaded."""
    attachment = content_disposition(new.filename)
    return attachment if new.content_type == HTML.media_type else attachment.replace("attachment", "inline", 1)


def _attributes(new: NewObject) -> Any:
    return {
        "Content-Type": new.content_type,
        "Content-Disposition": _disposition(new),
        **({"Cache-Control": new.cache_control} if new.cache_control else {}),
        MARK: new.mark,
    }


def _create(client: CloudClient, key: str, new: NewObject) -> None:
    if _is_own(client, key, new):  # checked first: a request costs less than an unnecessary upload
        return
    try:
        obstore.put(client, key, new.path, attributes=_attributes(new), mode="create", use_multipart=False)
    except AlreadyExistsError:
        if not _is_own(client, key, new):
            raise


def _is_own(client: CloudClient, key: str, new: NewObject) -> bool:
    """Whether the object with a key was written by this job.

    Raises:
        Taken: another object has the key.
    """
    try:
        found: Any = obstore.get(client, key, options={"head": True}).attributes
    except FileNotFoundError:
        return False
    if found.get(MARK) != new.mark:
        raise Taken
    return True


def _write_file(folder: Folder, key: str, new: NewObject, *, replace: bool) -> None:
    try:
        folder.write(key, new.path, replace=replace)
    except FileExistsError:
        if not _holds(folder, key, new):
            raise Taken from None


def _holds(folder: Folder, key: str, new: NewObject) -> bool:
    """Whether a file has exactly the bytes of the result, which are compared because a file has no mark."""
    try:
        found = folder.read(key)
    except FileNotFoundError:  # no file, but a folder, a link or the like
        return False
    try:
        return found.size == new.path.stat().st_size and _sha256(found.pieces) == new.sha256
    finally:
        found.close()


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
