"""Streams all results of a job as a ZIP file, which is produced while it is sent."""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from stat import S_IFREG
from typing import Any

from stream_zip import ZIP_AUTO, async_stream_zip

from app.models import Job, Result
from app.services.storage.object_store import ObjectStore

STORED = 0  # zlib level: image formats are compressed already
MODE = S_IFREG | 0o644


def stream_archive(job: Job, storage: ObjectStore) -> AsyncIterable[bytes]:
    """The bytes of a ZIP file with all results of a job.

    Args:
        job: the job with its results.
        storage: the object store with their content.
    """
    return async_stream_zip(_members(job, storage))


async def _members(job: Job, storage: ObjectStore) -> AsyncIterator[tuple[str, datetime, int, Any, Any]]:
    modified = job.finished_at or datetime.now(UTC)
    for result in job.results:
        yield result.filename, modified, MODE, ZIP_AUTO(result.bytes, level=STORED), _content(result, storage)


async def _content(result: Result, storage: ObjectStore) -> AsyncIterator[bytes]:
    async for chunk in storage.stream(result.key):
        yield chunk
