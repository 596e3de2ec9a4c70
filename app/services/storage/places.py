"""The places that stores connect to, whichever kind they are: users' buckets, and folders of the operator's."""

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

MARK = "pixtools"  # name of the metadata
DENIED = ("403 Forbidden", "401 Unauthorized")
FAULTS = (BaseError, OSError)  # of a place


@dataclass(frozen=True, kw_only=True)
class NewObject:
    """A file that is to be written, and what its place is to keep of it."""

    path: Path
    sha256: str
    content_type: str
    filename: str
    cache_control: str | None
    #: by which its writer recognizes it
    mark: str


class Taken(Exception):
    """There is another object under the key."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Opens places, and reads and writes there; errors are those of `FAULTS`."""

    #: folders that stores may be in
    roots: tuple[Path, ...] = ()

    def read(self, connection: Connection, key: str) -> Reading:
        """Begin to read an object."""
        if connection.scheme == FILE:
            return self.folder(connection).read(key)
        return read(open_bucket(connection), key)

    def write(self, connection: Connection, key: str, new: NewObject, *, replace: bool) -> None:
        """Write an object; one that carries its mark already is as good as written.

        Raises:
            Taken: there is another one, and it is not to be replaced. Nothing of the file has been sent then, unless
                the other one has come a moment ago.
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
            PermissionError: it is below no root.
        """
        path = Path(unquote(urlsplit(connection.url).path))
        for root in self.roots:
            if path.is_relative_to(root) and ".." not in path.parts:
                return Folder(root, path.relative_to(root).parts)
        raise PermissionError(errno.EACCES, "below no root of PIXTOOLS_FILE_STORE_ROOTS")


def is_missing(error: Exception) -> bool:
    """Whether an error of a place says that there is no such object."""
    return isinstance(error, FileNotFoundError)


def is_denied(error: Exception) -> bool:
    """Whether an error of a place says that it does not let this be done."""
    kinds = (PermissionError, PermissionDeniedError, UnauthenticatedError)
    return isinstance(error, kinds) or any(code in str(error) for code in DENIED)


def _disposition(new: NewObject) -> str:
    """Images are shown where they are; markup is not, on a site whose scripts may do more than ours."""
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
    if _is_own(client, key, new):  # asked first: a request costs less than a file that is sent for nothing
        return
    try:
        obstore.put(client, key, new.path, attributes=_attributes(new), mode="create", use_multipart=False)
    except AlreadyExistsError:
        if not _is_own(client, key, new):
            raise


def _is_own(client: CloudClient, key: str, new: NewObject) -> bool:
    """Whether an object is there, and written by this job.

    Raises:
        Taken: it is another one.
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
    """Whether a file has the very bytes: it has no metadata, so these are its mark."""
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
