"""Running one planned task: claim, fetch, render, store, record. The same code in every mode.

The bytes of a result are stored before the database learns of it, under a key that every attempt shares; so whatever
dies between two lines here, the next attempt repairs it.
"""

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import disk, metrics, tracing
from app.database import Database
from app.errors import (
    AssetMissing,
    ObjectNotFound,
    PixelProcessDied,
    PixToolsError,
    StepTimedOut,
    UnexpectedFailure,
    WorkspaceFailed,
    WorkspaceFull,
)
from app.formats import FORMATS
from app.imaging.recipe import INTERMEDIATE, INTERMEDIATE_SUFFIX, Limits, Monitor, Rendered, Stage, Target, When
from app.operations import OPERATIONS, Queue
from app.services import steps
from app.services.dag_builder import PlannedResult, PlannedStep, PlannedTask
from app.services.execution.input_cache import InputCache
from app.services.execution.leases import LeaseKeeper
from app.services.steps import Claim, StoredResult, Usage
from app.services.storage.filenames import result_filename
from app.services.storage.keys import asset_key, input_key, intermediate_key, result_key, shared_asset_key
from app.services.storage.object_store import ObjectStore

log = logging.getLogger(__name__)

TASK_FOLDER = "task-"  # beginning of the names of folders in the spool
PROGRESS_SECONDS = 1.0  # between two writes of the same task's progress


class Renderer(Protocol):
    """Does the pixel work: here, or in a process of its own."""

    def __call__(
        self, source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, *, monitor: Monitor
    ) -> list[Rendered | None]: ...


class LeaseLost(Exception):
    """The work is not wanted any more: the job was cancelled, or another attempt has begun."""


class HandedBack(Exception):
    """The worker has to stop; somebody else does the work."""


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Runs planned tasks."""

    database: Database
    storage: ObjectStore
    renderer_of: Callable[[Queue], Renderer]
    limits: Limits
    spool: Path
    inputs: InputCache
    lease_seconds: float
    max_attempts: int
    #: whether this worker has to stop now
    must_stop: Callable[[], bool] = lambda: False

    def run(self, job_id: UUID, task_id: str, owner: str) -> None:
        """Run one task as far as it is still to be done; failures are recorded, not raised.

        Args:
            job_id: of the job.
            task_id: of the planned task.
            owner: the same for every delivery of one message, so that a redelivered one goes on at once.
        """
        held = self.database.retry(
            steps.claim,
            self.must_stop,
            job_id,
            task_id,
            owner=owner,
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
        )
        if held is not None:
            started = time.monotonic()
            became = self._attempt(held)
            metrics.count_step(held.task.steps[-1].op, held.task.queue, became, time.monotonic() - started)

    def _attempt(self, held: Claim) -> str:
        """Do the work; what became of it, for the metrics."""
        log.debug("task_started", extra=_fields(held))
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            with (
                self._leases.keep(partial(self.renew, held)) as lost,
                tempfile.TemporaryDirectory(dir=self.spool, prefix=TASK_FOLDER) as folder,
            ):
                monitor = Monitor(_Progress(self, held, lost))
                outcomes = self._produce(held, Path(folder), monitor)
        except LeaseLost:
            log.info("task_abandoned", extra=_fields(held))
            self._discard(held)
            return "abandoned"
        except HandedBack:
            self.database.retry(steps.hand_back, self.must_stop, held)
            log.info("task_handed_back", extra=_fields(held))
            return "handed_back"
        except PixToolsError as error:
            return self._put_off(held, error) if error.waits else self._fail(held, error)
        except OSError as error:
            log.warning(
                "workspace_failed", extra={**_fields(held), "error": type(error).__name__, "errno": error.errno}
            )
            return self._put_off(held, WorkspaceFull()) if disk.is_full(error) else self._fail(held, WorkspaceFailed())
        except Exception:
            log.exception("task_crashed", extra=_fields(held))
            return self._fail(held, UnexpectedFailure())
        return self._succeed(held, outcomes, monitor)

    @cached_property
    def _leases(self) -> LeaseKeeper:
        return LeaseKeeper(self.lease_seconds / 3)

    def renew(self, held: Claim, **values: Any) -> bool:
        """Prolong the lease; False when it is lost. A database that is away for a moment loses nothing."""
        try:
            with self.database.session() as session:
                return steps.renew(session, held, self.lease_seconds, **values)
        except SQLAlchemyError as error:
            log.warning("lease_not_renewed", extra={**_fields(held), "error": type(error).__name__})
            return True

    def _produce(self, held: Claim, folder: Path, monitor: Monitor) -> dict[str, StoredResult]:
        """Render and store; the results by the tasks whose they are."""
        with tracing.span("fetch"):
            source = self._fetch(held, folder)
            stages = [Stage(step.op, step.params, self._fetch_assets(held, step, folder)) for step in held.task.steps]
        monitor.used["bytes_in"] = source.stat().st_size
        with tracing.span("render"):
            targets, rendered = self._render(
                held, folder, partial(self._renderer(held), source, stages, monitor=monitor)
            )
        with tracing.span("store"):
            return dict(self._stored(held, targets, rendered))

    def _renderer(self, held: Claim) -> Renderer:
        return self.renderer_of(Queue(held.task.queue))

    def _render(
        self, held: Claim, folder: Path, render: Callable[[Sequence[Target], Limits], list[Rendered | None]]
    ) -> tuple[dict[str, Target], list[Rendered | None]]:
        inline = held.plan.inline_children(held.task) if held.attempt == 1 else []
        targets = _targets(held, folder, inline)
        try:
            return targets, render(list(targets.values()), self.limits)
        except (PixelProcessDied, StepTimedOut):
            if not inline:
                raise
        targets = _targets(held, folder, [])  # an inline child never costs this task its success
        return targets, render(list(targets.values()), self.limits)

    def _stored(
        self, held: Claim, targets: Mapping[str, Target], rendered: Sequence[Rendered | None]
    ) -> Iterator[tuple[str, StoredResult]]:
        for (task_id, target), image in zip(targets.items(), rendered, strict=True):
            if target.op == INTERMEDIATE and image:
                key = intermediate_key(held.job.id, held.task.id)
                self.storage.upload_processed(key, target.path, content_type="application/octet-stream")
            elif image:
                yield task_id, self._store_result(held, held.plan.task(task_id), target.path, image)

    def _fetch(self, held: Claim, folder: Path) -> Path:
        path = folder / f"source{INTERMEDIATE_SUFFIX if held.task.parent else ''}"
        job = held.job
        if held.task.parent is None:
            if job.input_sha256 is None or job.input_bytes is None:
                raise ValueError(f"the input of job {job.id} has not been fetched yet")
            download = partial(self.storage.download_raw, input_key(job.id), sha256=job.input_sha256)
            self.inputs.fetch(job.input_sha256, job.input_bytes, path, download)
        else:
            self.storage.download_raw(intermediate_key(job.id, held.task.parent), path)
        return path

    def _fetch_assets(self, held: Claim, step: PlannedStep, folder: Path) -> dict[str, Path]:
        """Download the stored files that a step names; by the names of the parameters."""
        named = {parameter: name for parameter in OPERATIONS[step.op].assets if (name := step.params[parameter])}
        bound = self.database.retry(steps.assets_of, self.must_stop, held.job.id) if named else {}
        files = {}
        for parameter, name in named.items():
            files[parameter] = folder / f"asset-{step.id}-{parameter}"
            sha256 = bound.get(name)
            key = asset_key(held.job.tenant, sha256) if sha256 else shared_asset_key(name)
            try:
                self.storage.download_raw(key, files[parameter], sha256=sha256)
            except ObjectNotFound:
                raise AssetMissing(f"The stored file {name!r} is not there any more.") from None
        return files

    def _store_result(self, held: Claim, task: PlannedTask, path: Path, image: Rendered) -> StoredResult:
        planned = _result_of(task)
        format_ = FORMATS[image.format]
        outcome = StoredResult(
            key=result_key(held.job.id, task.id, format_.extension),
            filename=result_filename(held.job.input_filename, planned.name, format_.extension),
            format=image.format,
            content_type=format_.media_type,
            width=image.width,
            height=image.height,
            bytes=path.stat().st_size,
            sha256=_sha256(path),
        )
        self.storage.upload_processed(outcome.key, path, content_type=outcome.content_type, filename=outcome.filename)
        return outcome

    def _succeed(self, held: Claim, outcomes: Mapping[str, StoredResult], monitor: Monitor) -> str:
        reports, usage = _reports(held, monitor, outcomes), _usage(monitor, outcomes)
        counted = self.database.retry(steps.succeed, self.must_stop, held, outcomes, reports, usage)
        if not counted:
            log.info("task_outdated", extra=_fields(held))
            self._discard(held)
            return "outdated"
        log.debug("task_succeeded", extra=_fields(held))
        for outcome in outcomes.values():
            metrics.RESULT_BYTES.labels(outcome.format).inc(outcome.bytes)
            metrics.RESULT_PIXELS.labels(outcome.format).inc(outcome.width * outcome.height)
        return "succeeded"

    def _discard(self, held: Claim) -> None:
        """Remove what this attempt or one before it has stored for steps that nobody wants any more."""
        with self.database.session() as session:
            # Within the transaction: no retry by the client begins before the old object is gone, which has the same
            # key as the new one
            if not steps.is_unwanted(session, held):
                return
            self.storage.delete(intermediate_key(held.job.id, held.task.id))
            for task in (held.task, *held.plan.inline_children(held.task)):
                if task.result:
                    self.storage.delete(result_key(held.job.id, task.id, FORMATS[task.result.format].extension))

    def _put_off(self, held: Claim, error: PixToolsError) -> str:
        """Let a task wait for room or for the storage: no job fails for what passes and is not its own fault."""
        delay = self.database.retry(steps.put_off, self.must_stop, held, error)
        if delay is None:
            return "outdated"
        log.warning("task_put_off", extra={**_fields(held), "code": error.code, "seconds": round(delay, 1)})
        metrics.STEP_ERRORS.labels(error.code).inc()
        return "put_off"

    def _fail(self, held: Claim, error: PixToolsError) -> str:
        counted = self.database.retry(steps.fail, self.must_stop, held, error, max_attempts=self.max_attempts)
        log.warning("task_failed", extra={**_fields(held), "code": error.code, "counted": counted})
        metrics.STEP_ERRORS.labels(error.code).inc()
        return "failed" if counted else "outdated"


@dataclass
class _Progress:
    """Writes how far a task is, now and then, and ends it when it is not wanted any more."""

    executor: Executor
    held: Claim
    lost: threading.Event
    share: float = 0.0
    written_at: float = field(default_factory=time.monotonic)

    def __call__(self, share: float | None) -> None:
        self.share = self.share if share is None else share
        now = time.monotonic()
        if now - self.written_at >= PROGRESS_SECONDS:
            self.written_at = now
            if not self.executor.renew(self.held, progress=self.share):
                self.lost.set()
        if self.lost.is_set():
            raise LeaseLost
        if self.executor.must_stop():
            raise HandedBack


def _reports(held: Claim, monitor: Monitor, outcomes: Mapping[str, StoredResult]) -> dict[str, dict[str, Any]]:
    """What was found out, by the ids of the steps; of inline children only if they got there."""
    ids = [step.id for step in held.task.steps]
    ids += [task.id if task.id in outcomes else "" for task in held.plan.inline_children(held.task)]
    return {ids[number]: report for number, report in monitor.reports.items() if ids[number]}


def _usage(monitor: Monitor, outcomes: Mapping[str, StoredResult]) -> Usage:
    return Usage(**monitor.used, bytes_out=sum(outcome.bytes for outcome in outcomes.values()))


def _targets(held: Claim, folder: Path, inline: Sequence[PlannedTask]) -> dict[str, Target]:
    """The files to write, by the tasks whose results they are, and the one between tasks."""
    task, targets = held.task, {}
    if task.result:
        targets[task.id] = _target(task.result, folder / "result")
    for number, other in enumerate(inline, len(task.steps)):
        target = _target(_result_of(other), folder / f"result-{other.id}")
        targets[other.id] = replace(target, when=When.CHEAP, stage=number)
    if task.intermediate:
        when = When.OTHERWISE if len(inline) == len(held.plan.children(task.id)) else When.ALWAYS
        targets[INTERMEDIATE] = Target(folder / "intermediate", INTERMEDIATE, {}, when)
    return targets


def _target(result: PlannedResult, path: Path) -> Target:
    return Target(path, result.encoder, result.params)


def _result_of(task: PlannedTask) -> PlannedResult:
    if task.result is None:
        raise ValueError(f"task {task.id} plans no result")
    return task.result


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fields(held: Claim) -> dict[str, object]:
    return {"job_id": str(held.job.id), "task": held.task.id, "op": held.task.name, "attempt": held.attempt}
