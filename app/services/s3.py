"""Object storage: S3 or a local folder behind one interface, by obstore.

Keys are made here from ids alone, never from what a client sent. A client object is made after a fork, on first use.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from app import disk
from app.errors import ObjectIncomplete, ObjectNotFound, StoreUnavailable

PART_SIZE = 5 * 1024 * 1024  # bytes; the least that S3 allows, and what one upload holds in memory
PARALLEL_PARTS = 2
PARALLEL_UPLOADS = 4  # of one API process, so that its memory stays bounded however many clients upload
DELETE_BATCH = 1000  # keys; the most that S3 takes at once
ASSETS, JOBS = "assets/", "jobs/"
HEALTH = f"{JOBS}health"  # written to see that there is room; where rights are given by prefix, there are some here
READ_SIZE = 1024 * 1024  # bytes
SAMPLE = bytes(8192)  # more than the rest of a block that a full disk may still have
NO_BUCKET = "NoSuchBucket"  # S3's code
FULL = "The object storage has no room at the moment."


def job_prefix(job_id: UUID) -> str:
    """Everything that belongs to a job lies below this."""
    return f"{JOBS}{job_id}/"


def input_key(job_id: UUID) -> str:
    return f"{job_prefix(job_id)}input"


def result_key(job_id: UUID, step_id: str, extension: str) -> str:
    """The same for every attempt: a step that runs twice overwrites its own object."""
    return f"{job_prefix(job_id)}results/{step_id}.{extension}"


def asset_key(name: str) -> str:
    """A file that the operator has stored for all jobs, by a name that `AssetName` allows."""
    return f"{ASSETS}{name}"


def intermediate_key(job_id: UUID, task_id: str) -> str:
    return f"{job_prefix(job_id)}intermediates/{task_id}"


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """Where objects are kept.

    `url` is `file:///folder` or `s3://bucket`; `endpoint` names a server that is not AWS, `public_endpoint` the address
    under which clients reach it.
    """

    url: str
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = None


class ObjectStorage:
    """The objects of all jobs."""

    def __init__(self, config: StorageConfig) -> None:
        self._config = config
        self._address = urlsplit(config.url)
        if self._address.scheme not in {"file", "s3"}:
            raise ValueError(f"the storage URL must start with file:// or s3://, not {config.url!r}")
        self.is_local = self._address.scheme == "file"

    @cached_property
    def _slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(PARALLEL_UPLOADS)

    @property
    def _folder(self) -> Path:
        return Path(unquote(self._address.path))

    @cached_property
    def _store(self) -> LocalStore | S3Store:
        if self.is_local:
            return LocalStore(self._folder, mkdir=True, automatic_cleanup=True)
        return self._s3(self._config.endpoint)

    @cached_property
    def _signing_store(self) -> S3Store:
        return self._s3(self._config.public_endpoint or self._config.endpoint)

    def _s3(self, endpoint: str | None) -> S3Store:
        options = {
            "endpoint": endpoint,
            "access_key_id": self._config.access_key,
            "secret_access_key": self._config.secret_key,
        }
        return S3Store(
            self._address.netloc,
            region=self._config.region,
            virtual_hosted_style_request=endpoint is None,
            client_options={
                "allow_http": (endpoint or "").startswith("http:"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=60),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
            **{name: value for name, value in options.items() if value},  # type: ignore[arg-type]
        )

    async def upload_raw(self, key: str, file: BinaryIO) -> None:
        """Store an upload from a file at any position.

        Raises:
            StoreUnavailable: the storage does not answer.
        """
        async with self._slots:
            await asyncio.to_thread(self._upload, key, file)  # obstore reads a file in the thread that calls it

    def _upload(self, key: str, file: BinaryIO) -> None:
        if self.is_local and self._named(key, file):
            return
        file.seek(0)
        with _stored(key):
            obstore.put(self._store, key, file, use_multipart=self.is_local or None, **self._parts)

    def _named(self, key: str, file: BinaryIO) -> bool:
        """Give a file without a name its place in the folder, instead of copying its bytes; whether that is possible.

        It is on Linux, on one file system, and if nothing has the key.
        """
        path = self.local_path(key)
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
        if self.is_local:
            return {"chunk_size": READ_SIZE, "max_concurrency": 1}
        return {"chunk_size": PART_SIZE, "max_concurrency": PARALLEL_PARTS}

    def download_raw(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Write an object to a file.

        Args:
            key: of the object.
            path: of the file, which is overwritten.
            sha256: what must arrive; a cut or changed transfer is an error that may be repeated.

        Raises:
            ObjectNotFound: there is none.
            ObjectIncomplete: the storage answered, but not with the whole object.
            StoreUnavailable: the storage does not answer.
            OSError: the file cannot be written.
        """
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in self._pieces(key):
                file.write(chunk)
                digest.update(chunk)
        if sha256 and digest.hexdigest() != sha256:
            raise ObjectIncomplete

    def _pieces(self, key: str) -> Iterator[Any]:
        """The content of an object; only the storage's own errors are translated, not those of who takes the pieces."""
        read = 0
        with _translated(key):
            size, chunks = self._read(key)
            for chunk in chunks:
                read += len(chunk)
                yield chunk
        if read != size:
            raise ObjectIncomplete

    def _read(self, key: str) -> tuple[int, Iterable[Any]]:
        """Size and content of an object, piece by piece."""
        if self.is_local:  # obstore would hand out a local file in pieces of 8 KB
            path = self.local_path(key)
            return path.stat().st_size, _file_pieces(path)
        answer = obstore.get(self._store, key)
        return answer.meta["size"], answer.stream(min_chunk_size=READ_SIZE)

    def upload_processed(self, key: str, path: Path, *, content_type: str, filename: str | None = None) -> None:
        """Store an output; S3 serves it with this type, to be saved under this file name.

        Raises:
            StoreUnavailable: the storage does not answer, or has no room.
            OSError: the file cannot be read.
        """
        attributes = {"Content-Type": content_type}
        if filename:
            attributes["Content-Disposition"] = content_disposition(filename)
        with path.open("rb"), _stored(key):  # opened here as well: a lost file is no fault of the storage
            obstore.put(
                self._store,
                key,
                path,
                attributes=None if self.is_local else attributes,
                **self._parts,
            )

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of an object, as they arrive."""
        with _translated(key):
            answer = await obstore.get_async(self._store, key)
            async for chunk in answer.stream(min_chunk_size=READ_SIZE):
                yield bytes(chunk)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            with _translated(key):
                await obstore.head_async(self._store, key)
        except ObjectNotFound:
            return False
        return True

    def entries(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and bytes of every object below a prefix."""
        with _translated(prefix):
            for batch in obstore.list(self._store, prefix):
                yield from ((item["path"], item["size"]) for item in batch)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete everything below a prefix; how many objects that was."""
        count = 0
        with _translated(prefix):
            async for batch in obstore.list(self._store, prefix, chunk_size=DELETE_BATCH):
                await obstore.delete_async(self._store, [item["path"] for item in batch])
                count += len(batch)
        return count

    def delete(self, key: str) -> None:
        """Delete one object; it need not be there."""
        try:
            with _translated(key):
                obstore.delete(self._store, key)
        except ObjectNotFound:
            return

    async def check(self) -> None:
        """Ask the storage for something that need not be there.

        Raises:
            StoreUnavailable: it does not answer as it should.
        """
        await self.exists(HEALTH)

    async def check_writing(self) -> None:
        """Store a small object: a storage without room still answers questions. A local folder is a disk of `Room`.

        Raises:
            StoreUnavailable: it cannot be stored.
        """
        if self.is_local:
            return
        with _stored(HEALTH):
            await obstore.put_async(self._store, HEALTH, SAMPLE)

    def presign(self, key: str, seconds: int) -> str:
        """A download URL of S3 that expires."""
        return obstore.sign(self._signing_store, "GET", key, timedelta(seconds=seconds))

    def local_path(self, key: str) -> Path:
        """The file of an object in a local folder."""
        return self._folder / key


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            yield piece


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Around the storage's own calls, and nothing else."""
    try:
        yield
    except FileNotFoundError as error:
        if NO_BUCKET in str(error):
            raise StoreUnavailable("The bucket of the object storage is missing.") from error
        raise ObjectNotFound(f"The object {key} is missing.") from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable(FULL if disk.is_full(error) else None) from error


@contextmanager
def _stored(key: str) -> Iterator[None]:
    """Around writing: what is missing then is the place for the object."""
    try:
        with _translated(key):
            yield
    except ObjectNotFound as error:
        raise StoreUnavailable("The object storage does not take the object: its place is missing.") from error


def content_disposition(filename: str) -> str:
    """`attachment` with a file name of any script, by RFC 6266."""
    ascii_name = filename.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
    encoded = quote(filename, safe="")
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"
