"""Fetches inputs from stores: buckets of the tenant, or folders."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import SourceBusy, SourceDenied, SourceFailed, SourceNotFound, SourceUnavailable
from app.services.execution.web import Fetched, FetchLimits, Sink
from app.services.storage.destinations import Connection
from app.services.storage.object_store import Reading
from app.services.storage.places import FAULTS, Places, is_denied, is_missing
from app.services.webhooks.breakers import HostPaused
from app.services.webhooks.host_limits import HostLimits


@dataclass(frozen=True, kw_only=True)
class BucketClient:
    """Reads objects of stores."""

    places: Places
    host_limits: HostLimits
    limits: FetchLimits

    def fetch(self, connection: Connection, key: str, path: Path, look: Callable[[float | None], None]) -> Fetched:
        """Download an object to a file.

        Args:
            connection: the store.
            key: key of the object.
            path: path of the file.
            look: called at intervals with the share that has arrived; an exception from it ends the fetch.

        Raises:
            SourceFailed: the object does not exist or cannot be read now.
            UploadTooLarge: the object exceeds the limit on uploads.
            OSError: the file cannot be written.
        """
        try:
            with self.host_limits.one(connection.address), path.open("wb") as file:
                return self._read(connection, key, Sink(file, self.limits.bytes), look)
        except HostPaused as paused:
            raise SourceBusy(retry_after=max(1, round(paused.seconds))) from None

    def _read(self, connection: Connection, key: str, sink: Sink, look: Callable[[float | None], None]) -> Fetched:
        try:
            reading = self.places.read(connection, key)
        except FAULTS as error:
            raise _failure(error) from None
        try:
            return _copied(reading, sink, look)
        finally:
            reading.close()


def _copied(reading: Reading, sink: Sink, look: Callable[[float | None], None]) -> Fetched:
    sink.expect(reading.size)
    while (piece := _next(reading.pieces)) is not None:
        sink.write(piece)
        look(sink.share)
    if sink.size != reading.size:
        raise SourceUnavailable("The store has returned only a part of the object.")
    return sink.fetched(reading.etag)


def _next(pieces: Iterator[Any]) -> bytes | None:
    """The next piece. Only errors of the store are translated here, not those of writing the file."""
    try:
        piece = next(pieces, None)
    except FAULTS as error:
        raise _failure(error) from None
    return None if piece is None else bytes(piece)


def _failure(error: Exception) -> SourceFailed:
    if is_missing(error):
        return SourceNotFound("There is no object with the key of the input in its store.")
    if is_denied(error):
        return SourceDenied("The store of the input refuses its credentials, or does not let them read the object.")
    return SourceUnavailable("The store of the input does not answer as it should.")
