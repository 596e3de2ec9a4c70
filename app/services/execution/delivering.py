"""Writes results into users' stores.

The metadata of a written object contains a mark of the job. If an attempt dies after it has written the object, the
next attempt recognizes the object by the mark, even if existing objects must not be overwritten. Files in folders have
no metadata, so their bytes are compared instead.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.database import Database
from app.errors import OutputDenied, OutputExists, OutputFailed, OutputUnavailable, StoreNotFound
from app.models import Job
from app.services import stores
from app.services.outputs import Output, key_of
from app.services.storage.destinations import Connection
from app.services.storage.places import FAULTS, NewObject, Places, Taken, is_denied


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a finished result."""

    path: Path
    #: name of the result
    name: str
    ext: str
    content_type: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class Deliverer:
    """Writes results into the stores of their tenants."""

    database: Database
    places: Places

    def deliver(self, job: Job, file: File) -> dict[str, Any] | None:
        """Write a result to the output of its job; returns the record for the result's row, or None without an output.

        Raises:
            OutputFailed: the result cannot be written there.
            OSError: the file cannot be read.
        """
        if job.output is None:
            return None
        output = Output(**job.output)
        try:
            with self.database.session(read_only=True, tenant=job.tenant) as session:
                connection = stores.connection(session, output.store)
        except StoreNotFound:
            raise OutputFailed(f"The store {output.store!r} no longer exists.") from None
        key = key_of(output, job, name=file.name, ext=file.ext, sha256=file.sha256)
        written = self.write(connection, key, output, file, mark=f"{job.id}/{file.name}")
        return {"store": output.store, "key": key, "url": f"{connection.url}/{key}", "written": written}

    def write(self, connection: Connection, key: str, output: Output, file: File, *, mark: str) -> bool:
        """Write an object; returns False if another object has this key and is kept.

        Raises:
            OutputFailed: the object cannot be written, or must not be overwritten.
            OSError: the file cannot be read.
        """
        new = NewObject(
            path=file.path,
            sha256=file.sha256,
            content_type=file.content_type,
            filename=file.filename,
            cache_control=output.cache_control,
            mark=mark,
        )
        with file.path.open("rb"):  # raises an error if the file is lost, which is not the store's fault
            pass
        try:
            self.places.write(connection, key, new, replace=output.if_exists == "replace")
        except Taken:
            if output.if_exists == "fail":
                raise OutputExists(f"The store already has an object {key!r}.") from None
            return False
        except FAULTS as error:
            raise OutputDenied if is_denied(error) else OutputUnavailable from None
        return True
