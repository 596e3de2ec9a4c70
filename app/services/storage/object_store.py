"""The interface of the object store, and the code that all implementations share, for obstore and its errors.

The implementations are `local.py`, `../s3.py`, `gcs.py` and `azure.py`; `app/wiring.py` picks one by the storage URL.
A client is made on first use, after a fork. All exceptions of obstore and of a provider are translated.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from app import disk
from app.errors import ObjectIncomplete, ObjectNotFound, StoreUnavailable
from app.services.storage.filenames import content_disposition

if TYPE_CHECKING:
    from obstore import GetOptions

PART_SIZE = 5 * 1024 * 1024  # bytes; the smallest that S3 allows, and the memory of one upload
PARALLEL_PARTS = 2
DELETE_BATCH = 1000  # keys; the largest batch that S3 accepts
READ_SIZE = 1024 * 1024  # bytes
FULL = "The object storage has no room at the moment."

CloudClient = S3Store | GCSStore | AzureStore
Client = CloudClient | LocalStore


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An object that is being read."""

    size: int
    etag: str | None
    pieces: Iterator[Any]
    close: Callable[[], None] = lambda: None


class ObjectStore(Protocol):
    """A store for the objects of all jobs.

    Every method raises `StoreUnavailable` if the store does not answer, or answers with an unexpected error.
    """

    @property
    def folder(self) -> Path | None:
        """The local folder with the objects as files, which take disk space but need no cache; None: a remote store."""

    async def upload_raw(self, key: str, file: BinaryIO) -> None:
        """Store an upload from a file at any position."""

    def upload_processed(self, key: str, path: Path, *, content_type: str, filename: str | None = None) -> None:
        """Store an output; downloads have this content type and file name.

        Raises:
            OSError: the file cannot be read.
        """

    def download_raw(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Write an object to a file.

        Args:
            key: key of the object.
            path: path of the file, which is overwritten.
            sha256: expected checksum; an incomplete or changed transfer is a retryable error.

        Raises:
            ObjectNotFound: there is no such object.
            ObjectIncomplete: the store has not returned the whole object.
            OSError: the file cannot be written.
        """

    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object as they arrive, from `start` up to but not including `end`.

        Raises:
            ObjectNotFound: there is no such object.
        """

    async def size(self, key: str) -> int | None:
        """The size of an object in bytes; None if there is no such object."""

    def entries(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The key and the size in bytes of every object below a prefix, which ends in `/`."""

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all objects below a prefix, which ends in `/`; returns their number."""

    async def check_writing(self, key: str, content: bytes) -> None:
        """Store a small object as a test, since a full store still answers reads. Local folders use `Room` instead."""


class ObstorePeer(ABC):
    """The code that all implementations share."""

    #: the provider's code for a bucket that does not exist; obstore reports it like a missing object
    missing_bucket: ClassVar[str] = "NoSuchBucket"

    @cached_property
    @abstractmethod
    def _client(self) -> Client: ...

    async def upload_raw(self, key: str, file: BinaryIO) -> None:
        await asyncio.to_thread(self._upload, key, file)  # obstore reads a file in the thread that calls it

    def _upload(self, key: str, file: BinaryIO) -> None:
        file.seek(0)
        with self._stored(key):
            obstore.put(self._client, key, file, **self._parts)

    @property
    def _parts(self) -> dict[str, Any]:
        return {"chunk_size": PART_SIZE, "max_concurrency": PARALLEL_PARTS}

    def upload_processed(self, key: str, path: Path, *, content_type: str, filename: str | None = None) -> None:
        attributes = {"Content-Type": content_type}
        if filename:
            attributes["Content-Disposition"] = content_disposition(filename)
        with path.open("rb"), self._stored(key):  # opened here as well: a lost file is not a fault of the store
            obstore.put(self._client, key, path, **self._attributes(attributes), **self._parts)

    def _attributes(self, attributes: dict[str, str]) -> dict[str, Any]:
        return {"attributes": attributes}

    def download_raw(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self._pieces(key):
                file.write(piece)
                digest.update(piece)
        if sha256 and digest.hexdigest() != sha256:
            raise ObjectIncomplete

    def _pieces(self, key: str) -> Iterator[Any]:
        """The pieces of an object; only errors of the store are translated, not those of the consumer."""
        read = 0
        with self._translated(key):
            size, pieces = self._read(key)
            for piece in pieces:
                read += len(piece)
                yield piece
        if read != size:
            raise ObjectIncomplete

    def _read(self, key: str) -> tuple[int, Iterable[Any]]:
        """The size of an object in bytes, and its content piece by piece."""
        answer = obstore.get(self._client, key)
        return answer.meta["size"], answer.stream(min_chunk_size=READ_SIZE)

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if end is not None and end <= start:
            return
        with self._translated(key):
            answer = await obstore.get_async(self._client, key, options=_range(start, end))
            async for piece in answer.stream(min_chunk_size=READ_SIZE):
                yield bytes(piece)

    async def size(self, key: str) -> int | None:
        try:
            with self._translated(key):
                return (await obstore.head_async(self._client, key))["size"]
        except ObjectNotFound:
            return None

    def entries(self, prefix: str) -> Iterator[tuple[str, int]]:
        with self._translated(prefix):
            for batch in obstore.list(self._client, prefix):
                yield from ((item["path"], item["size"]) for item in batch)

    def delete(self, key: str) -> None:
        try:
            with self._translated(key):
                obstore.delete(self._client, key)
        except ObjectNotFound:
            return

    async def delete_prefix(self, prefix: str) -> int:
        count = 0
        with self._translated(prefix):
            async for batch in obstore.list(self._client, prefix, chunk_size=DELETE_BATCH):
                await self._delete_all([item["path"] for item in batch])
                count += len(batch)
        return count

    async def _delete_all(self, keys: list[str]) -> None:
        try:
            await obstore.delete_async(self._client, keys)
        except FileNotFoundError:  # another process deletes the same; a store without bulk deletion stops at the first
            for key in keys:
                await asyncio.to_thread(self.delete, key)

    async def check_writing(self, key: str, content: bytes) -> None:
        with self._stored(key):
            await obstore.put_async(self._client, key, content)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Translate errors of the store; the block must contain only calls of the store."""
        try:
            yield
        except FileNotFoundError as error:
            if self.missing_bucket in str(error):
                raise StoreUnavailable("The bucket of the object storage is missing.") from error
            raise ObjectNotFound(f"The object {key} is missing.") from error
        except (BaseError, OSError) as error:
            raise StoreUnavailable(FULL if disk.is_full(error) else None) from error

    @contextmanager
    def _stored(self, key: str) -> Iterator[None]:
        """Translate errors of writing, for which 'not found' means a missing bucket."""
        try:
            with self._translated(key):
                yield
        except ObjectNotFound as error:
            raise StoreUnavailable(
                "The object storage cannot take the object: its bucket or folder is missing."
            ) from error


@dataclass(frozen=True, kw_only=True)
class CloudPeer(ObstorePeer):
    """A bucket of a provider, which serves downloads itself.

    Missing credentials come from the provider's default chain: environment, machine, pod.
    """

    folder: ClassVar[None] = None

    bucket: str
    #: address of a server that is not the provider's own, and the address at which clients reach it
    endpoint: str | None = None
    public_endpoint: str | None = None

    @abstractmethod
    def _open(self, endpoint: str | None) -> CloudClient:
        """A client for an endpoint; None: the provider's default endpoint."""

    @cached_property
    def _client(self) -> CloudClient:
        return self._open(self.endpoint)

    @cached_property
    def _signing_client(self) -> CloudClient:
        return self._open(self.public_endpoint or self.endpoint)

    def presign(self, key: str, seconds: int) -> str:
        """A download URL that the provider serves until it expires.

        Raises:
            StoreUnavailable: the credentials cannot sign.
        """
        with self._translated(key):
            return obstore.sign(self._signing_client, "GET", key, timedelta(seconds=seconds))


def client_options(endpoint: str | None) -> dict[str, Any]:
    """The options and limits of all connections to a provider."""
    return {
        "client_options": {
            "allow_http": (endpoint or "").startswith("http:"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    }


def given(**options: str | None) -> dict[str, Any]:
    """The options that are not None; the provider's default chain supplies the others."""
    return {name: value for name, value in options.items() if value}


def _range(start: int, end: int | None) -> "GetOptions | None":
    if end is not None:
        return {"range": (start, end)}
    return {"range": {"offset": start}} if start else None
