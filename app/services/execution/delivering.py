"""Writing results into users' stores.

A write carries a mark of its own in the object's metadata. So an attempt that follows one which died between the write
and its row knows the object for its own, also where nothing that exists may be written over.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from app.database import Database
from app.errors import OutputDenied, OutputExists, OutputFailed, OutputUnavailable, StoreNotFound
from app.formats import HTML
from app.models import Job
from app.services import stores
from app.services.outputs import Output, key_of
from app.services.storage.destinations import Connection, open_bucket
from app.services.storage.filenames import content_disposition
from app.services.storage.object_store import PARALLEL_PARTS, PART_SIZE, CloudClient

MARK = "pixtools"  # name of the metadata
DENIED = ("403 Forbidden", "401 Unauthorized")


@dataclass(frozen=True, kw_only=True)
class File:
    """A result that has been made."""

    path: Path
    #: of the result
    name: str
    ext: str
    content_type: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class Deliverer:
    """Writes results into the stores of their tenants."""

    database: Database

    def deliver(self, job: Job, file: File) -> dict[str, Any] | None:
        """Write a result where its job says; returns what the result's row records of that, or None for nothing.

        Raises:
            OutputFailed: it cannot be written there.
            OSError: the file cannot be read.
        """
        if job.output is None:
            return None
        output = Output(**job.output)
        try:
            with self.database.session(read_only=True, tenant=job.tenant) as session:
                connection = stores.connection(session, output.store)
        except StoreNotFound:
            raise OutputFailed(f"The store {output.store!r} is not there any more.") from None
        key = key_of(output, job, name=file.name, ext=file.ext, sha256=file.sha256)
        written = _write(connection, key, output, file, mark=f"{job.id}/{file.name}")
        url = f"{connection.url}/{key}"
        return {"store": output.store, "key": key, "url": url, "written": written}


def _write(connection: Connection, key: str, output: Output, file: File, *, mark: str) -> bool:
    """Whether the object is this job's now; False if another object is there, which stays."""
    attributes: Any = {
        "Content-Type": file.content_type,
        "Content-Disposition": _disposition(file),
        **({"Cache-Control": output.cache_control} if output.cache_control else {}),
        MARK: mark,
    }
    with file.path.open("rb"):  # a lost file is not a fault of the store
        pass
    try:
        client = open_bucket(connection)
        if output.if_exists == "replace":
            options: Any = {"chunk_size": PART_SIZE, "max_concurrency": PARALLEL_PARTS}
            obstore.put(client, key, file.path, attributes=attributes, **options)
            return True
        return _create(client, key, output, file, attributes)
    except (BaseError, OSError) as error:
        raise _failure(error) from None


def _disposition(file: File) -> str:
    """Images are shown where they are; markup is not, on a site whose scripts may do more than ours."""
    attachment = content_disposition(file.filename)
    return attachment if file.content_type == HTML.media_type else attachment.replace("attachment", "inline", 1)


def _create(client: CloudClient, key: str, output: Output, file: File, attributes: Any) -> bool:
    try:
        obstore.put(client, key, file.path, attributes=attributes, mode="create", use_multipart=False)
    except AlreadyExistsError:
        found: Any = obstore.get(client, key).attributes
        if found.get(MARK) == attributes[MARK]:
            return True
        if output.if_exists == "fail":
            raise OutputExists(f"There is an object {key!r} in the store already.") from None
        return False
    return True


def _failure(error: Exception) -> OutputFailed:
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or any(code in str(error) for code in DENIED):
        return OutputDenied()
    return OutputUnavailable()
