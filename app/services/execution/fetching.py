"""Fetches the input of a job: the first task of a job whose request did not contain the file.

An input that would have been refused as an upload fails the job, with the same error code. The plan depends on the
format of the input, so the transaction that records the success completes the plan and makes the next tasks due.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app import metrics, tracing
from app.errors import (
    JobExpired,
    JobNotFound,
    KnownPoison,
    ObjectNotFound,
    PixToolsError,
    ResultNotFound,
    SourceChanged,
    SourceNotFound,
    StoreNotFound,
    TenantLimit,
    TenantNotFound,
)
from app.imaging.probe import ImageHeader, probe
from app.models import Job
from app.services import dead_letters, jobs, sources, steps, stores
from app.services.access.limits import Load, TenantLimits, charge
from app.services.execution.attempts import Attempts, LeaseLost, Monitored, fields_of
from app.services.execution.buckets import BucketClient
from app.services.execution.web import Fetched, WebClient, too_large
from app.services.finalizer import lock_open_job
from app.services.intake.rules import InputRules
from app.services.sources import ETAG, ResultSource, Source, StoreSource, UrlSource
from app.services.steps import Claim, Usage
from app.services.storage.keys import fetched_key

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/octet-stream"
KINDS = {UrlSource: "url", StoreSource: "store", ResultSource: "job"}  # their names in metrics
REFUSALS = (KnownPoison, TenantLimit)  # raised by the transaction that records a success


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """An input that has been checked and stored."""

    key: str
    header: ImageHeader
    fetched: Fetched


@dataclass(frozen=True, kw_only=True)
class Fetcher(Attempts[Arrived]):
    """Fetches inputs."""

    web: WebClient
    buckets: BucketClient
    rules: InputRules
    #: defaults for tenants without limits of their own
    tenant_limits: TenantLimits

    def _work(self, held: Claim, folder: Path, progress: Monitored) -> Arrived:
        source = self._source(held)
        path = folder / "input"
        with tracing.span("fetch"), metrics.FETCH_SECONDS.labels(_kind(source)).time():
            fetched = self._fetch(held, source, path, progress)
        metrics.FETCH_BYTES.labels(_kind(source)).inc(fetched.size)
        _check_unchanged(held.job, fetched)
        header = self._header(held, path)
        key = fetched_key(held.job.id, held.job.run, held.attempt)
        with tracing.span("store"):
            self.storage.upload_processed(key, path, content_type=CONTENT_TYPE)
        progress(1.0)
        return Arrived(key=key, header=header, fetched=fetched)

    def _source(self, held: Claim) -> Source:
        with self.database.session(read_only=True) as session:
            return sources.opened(session, held.job)

    def _fetch(self, held: Claim, source: Source, path: Path, progress: Monitored) -> Fetched:
        if isinstance(source, UrlSource):
            return self.web.fetch(source, path, progress)
        if isinstance(source, StoreSource):
            return self._read_store(held, source, path, progress)
        return self._copy(held, source, path)

    def _read_store(self, held: Claim, source: StoreSource, path: Path, progress: Monitored) -> Fetched:
        try:
            with self.database.session(read_only=True, tenant=held.job.tenant) as session:
                connection = stores.connection(session, source.store)
        except StoreNotFound:
            raise SourceNotFound(f"The store {source.store!r} no longer exists.") from None
        return self.buckets.fetch(connection, source.key, path, progress)

    def _copy(self, held: Claim, source: ResultSource, path: Path) -> Fetched:
        """Copy a result of another job, which may be deleted at any time, so that this job owns its input."""
        try:
            with self.database.session(read_only=True, tenant=held.job.tenant) as session:
                result = jobs.result(session, source.job, source.result)
            if result.bytes > self.web.limits.bytes:
                raise too_large(self.web.limits.bytes, result.bytes)
            self.storage.download_raw(result.key, path, sha256=result.sha256)
        except (JobNotFound, JobExpired, ResultNotFound, ObjectNotFound):
            raise SourceNotFound(f"The result {source.result!r} of job {source.job} no longer exists.") from None
        return Fetched(size=result.bytes, sha256=result.sha256)

    def _header(self, held: Claim, path: Path) -> ImageHeader:
        """Read and check the header of an input, which is refused in the same cases as an upload."""
        with path.open("rb") as file:
            header = probe(file)
        self.rules.check(held.job.operations, header)
        return header

    def _succeed(self, held: Claim, work: Arrived) -> str:
        try:
            self.database.retry(_record, self.must_stop, held, work, self.tenant_limits)
        except REFUSALS as error:
            self._remove(held, work.key)
            # no further attempt: its outcome would be the same
            self.database.retry(steps.fail, self.must_stop, held, error, max_attempts=held.attempt)
            log.warning("task_failed", extra={**fields_of(held), "code": error.code, "counted": True})
            metrics.STEP_ERRORS.labels(error.code).inc()
            return "failed"
        except (LeaseLost, TenantNotFound):  # a tenant that is being erased has its jobs ended
            log.info("task_outdated", extra=fields_of(held))
            self._discard(held)
            return "outdated"
        log.debug("task_succeeded", extra=fields_of(held))
        metrics.UPLOAD_BYTES.labels(work.header.format).inc(work.fetched.size)
        metrics.UPLOAD_PIXELS.labels(work.header.format).inc(work.header.pixels_read)
        return "succeeded"

    def _discard(self, held: Claim) -> None:
        """Remove the file of this attempt, unless the row names it: a commit may succeed even if its answer is lost."""
        key = fetched_key(held.job.id, held.job.run, held.attempt)
        with self.database.session(read_only=True) as session:
            job = session.get(Job, held.job.id)
            if job is not None and job.input_key == key:
                return
        self._remove(held, key)

    def _remove(self, held: Claim, key: str) -> None:
        try:
            self.storage.delete(key)
        except PixToolsError as error:  # the object is deleted with the job
            log.warning("input_left_behind", extra={**fields_of(held), "error": error.code})


def _kind(source: Source) -> str:
    return KINDS[type(source)]


def _check_unchanged(job: Job, fetched: Fetched) -> None:
    """Refuse a file that differs from the one from which this job already has results.

    Raises:
        SourceChanged: the bytes or the ETag of the file differ.
    """
    if job.input_sha256 is None:
        return
    before = (job.input_source or {}).get(ETAG)
    if job.input_sha256 != fetched.sha256 or (before and fetched.etag and before != fetched.etag):
        raise SourceChanged


def _record(session: Session, held: Claim, arrived: Arrived, limits: TenantLimits) -> None:
    """Record the properties of the input, complete the plan, and make the next tasks due.

    Raises:
        LeaseLost: this attempt no longer counts; nothing was written.
        KnownPoison, TenantLimit: the input is refused, as it would be as an upload.
    """
    job = lock_open_job(session, held.job.id)
    if job is None:
        raise LeaseLost
    is_new = job.input_sha256 is None
    plan = held.plan.of_format(arrived.header.format)
    dead_letters.refuse_known(session, arrived.fetched.sha256, plan, job.tenant)
    for name, value in _facts(job, arrived).items():
        setattr(job, name, value)
    job.plan = plan.to_json()
    session.flush()
    if not steps.succeed(session, replace(held, plan=plan), {}, usage=Usage()):
        raise LeaseLost
    if is_new:  # as late as possible: it locks the tenant's row, for which other jobs wait
        load = Load(bytes=arrived.fetched.size, pixels=arrived.header.pixels_read)
        charge(session, job.tenant, limits, load)


def _facts(job: Job, arrived: Arrived) -> dict[str, Any]:
    header, fetched = arrived.header, arrived.fetched
    noted = {ETAG: fetched.etag} if fetched.etag else {}
    return {
        "input_key": arrived.key,
        "input_source": {**(job.input_source or {}), **noted},
        "input_format": header.format,
        "input_width": header.width,
        "input_height": header.height,
        "input_frames": header.frames,
        "input_bytes": fetched.size,
        "input_sha256": fetched.sha256,
    }
