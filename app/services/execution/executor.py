"""Runs a planned task: claim, fetch, render, store, record. The code is the same in both modes.

The bytes of a result are stored before its row is written, under a key that all attempts share. So a process may die at
any point here, and the next attempt completes the work.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from app import metrics, tracing
from app.errors import AssetMissing, ObjectNotFound, PixelProcessDied, StepTimedOut
from app.formats import FORMATS
from app.imaging.recipe import (
    INTERMEDIATE,
    INTERMEDIATE_SUFFIX,
    Limits,
    Monitor,
    Part,
    Rendered,
    Stage,
    Target,
    When,
)
from app.operations import OPERATIONS, Queue
from app.services import steps
from app.services.dag_builder import PlannedResult, PlannedStep, PlannedTask
from app.services.execution.attempts import Attempts, Monitored, fields_of
from app.services.execution.delivering import Deliverer, File
from app.services.execution.input_cache import InputCache
from app.services.steps import Claim, StoredResult, Usage
from app.services.storage.filenames import base_name, result_filename
from app.services.storage.keys import asset_key, intermediate_key, parts_prefix, result_key, shared_asset_key

log = logging.getLogger(__name__)


class Renderer(Protocol):
    """Renders images, in this process or in a separate one."""

    def __call__(
        self, source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, *, monitor: Monitor
    ) -> list[Rendered | None]: ...


@dataclass(frozen=True)
class Made:
    """The results that an attempt has stored, by task, and its reports."""

    outcomes: Mapping[str, Sequence[StoredResult]]
    monitor: Monitor


@dataclass(frozen=True, kw_only=True)
class Executor(Attempts[Made]):
    """Runs planned tasks."""

    renderer_of: Callable[[Queue], Renderer]
    deliverer: Deliverer
    limits: Limits
    inputs: InputCache

    def _work(self, held: Claim, folder: Path, progress: Monitored) -> Made:
        monitor = Monitor(progress)
        return Made(self._produce(held, folder, monitor), monitor)

    def _produce(self, held: Claim, folder: Path, monitor: Monitor) -> dict[str, list[StoredResult]]:
        """Render and store; returns the results by task."""
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
        targets = _targets(held, folder, [])  # this task must not fail because of an inline child
        return targets, render(list(targets.values()), self.limits)

    def _stored(
        self, held: Claim, targets: Mapping[str, Target], rendered: Sequence[Rendered | None]
    ) -> Iterator[tuple[str, list[StoredResult]]]:
        for (task_id, target), image in zip(targets.items(), rendered, strict=True):
            if target.op == INTERMEDIATE and image:
                key = intermediate_key(held.job.id, held.task.id)
                self.storage.upload_processed(key, target.path, content_type="application/octet-stream")
            elif image:
                task = held.plan.task(task_id)
                yield task_id, [self._store_result(held, task, *file) for file in _files(target, image)]

    def _fetch(self, held: Claim, folder: Path) -> Path:
        path = folder / f"source{'' if held.task.is_first else INTERMEDIATE_SUFFIX}"
        job = held.job
        if held.task.is_first:
            if job.input_sha256 is None or job.input_bytes is None:
                raise ValueError(f"the input of job {job.id} has not been fetched yet")
            download = partial(self.storage.download_raw, job.input_key, sha256=job.input_sha256)
            self.inputs.fetch(job.input_sha256, job.input_bytes, path, download)
        else:
            self.storage.download_raw(intermediate_key(job.id, str(held.task.parent)), path)
        return path

    def _fetch_assets(self, held: Claim, step: PlannedStep, folder: Path) -> dict[str, Path]:
        """Download the assets that a step names; returns their files by the name of the parameter."""
        named = {parameter: name for parameter in OPERATIONS[step.op].assets if (name := step.params.get(parameter))}
        bound = self.database.retry(steps.assets_of, self.must_stop, held.job.id) if named else {}
        files = {}
        for parameter, name in named.items():
            files[parameter] = folder / f"asset-{step.id}-{parameter}"
            sha256 = bound.get(name)
            key = asset_key(held.job.tenant, sha256) if sha256 else shared_asset_key(name)
            try:
                self.storage.download_raw(key, files[parameter], sha256=sha256)
            except ObjectNotFound:
                raise AssetMissing(f"The stored file {name!r} no longer exists.") from None
        return files

    def _store_result(self, held: Claim, task: PlannedTask, path: Path, file: Part) -> StoredResult:
        planned = _result_of(task)
        format_, name = FORMATS[file.format], planned.name_of(file.suffix)
        outcome = StoredResult(
            suffix=file.suffix,
            key=_key(held, task, file),
            filename=_filename(held, planned, file),
            format=file.format,
            content_type=format_.media_type,
            width=file.width,
            height=file.height,
            bytes=path.stat().st_size,
            sha256=_sha256(path),
        )
        self.storage.upload_processed(outcome.key, path, content_type=outcome.content_type, filename=outcome.filename)
        delivered = File(
            path=path,
            name=name,
            ext=format_.extension,
            content_type=outcome.content_type,
            filename=outcome.filename,
            sha256=outcome.sha256,
        )
        return replace(outcome, output=self.deliverer.deliver(held.job, delivered))

    def _succeed(self, held: Claim, made: Made) -> str:
        outcomes, monitor = made.outcomes, made.monitor
        reports, usage = _reports(held, monitor, outcomes), _usage(monitor, outcomes)
        counted = self.database.retry(steps.succeed, self.must_stop, held, outcomes, reports, usage)
        if not counted:
            log.info("task_outdated", extra=fields_of(held))
            self._discard(held)
            return "outdated"
        log.debug("task_succeeded", extra=fields_of(held))
        for outcome in chain.from_iterable(outcomes.values()):
            metrics.RESULT_BYTES.labels(outcome.format).inc(outcome.bytes)
            metrics.RESULT_PIXELS.labels(outcome.format).inc((outcome.width or 0) * (outcome.height or 0))
        return "succeeded"

    def _discard(self, held: Claim) -> None:
        """Remove files that attempts have stored for steps that are no longer wanted."""
        with self.database.session() as session:
            # In one transaction: a retry by the client must not begin before the old object is gone, since the new one
            # has the same key
            if not steps.is_unwanted(session, held):
                return
            self.storage.delete(intermediate_key(held.job.id, held.task.id))
            for task in (held.task, *held.plan.inline_children(held.task)):
                for key in self._result_keys(held, task):
                    self.storage.delete(key)

    def _result_keys(self, held: Claim, task: PlannedTask) -> list[str]:
        """The keys under which attempts at a task may have stored results."""
        if task.result is None:
            return []
        if task.result.is_bundle:  # the names of its files depend on the pixels, so they are listed
            return [key for key, _ in self.storage.entries(parts_prefix(held.job.id, task.id))]
        return [result_key(held.job.id, task.id, FORMATS[task.result.format].extension)]


def _reports(held: Claim, monitor: Monitor, outcomes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The reports by step id; those of inline children only if their results were written."""
    ids = [step.id for step in held.task.steps]
    ids += [task.id if task.id in outcomes else "" for task in held.plan.inline_children(held.task)]
    return {ids[number]: report for number, report in monitor.reports.items() if ids[number]}


def _usage(monitor: Monitor, outcomes: Mapping[str, Sequence[StoredResult]]) -> Usage:
    return Usage(**monitor.used, bytes_out=sum(outcome.bytes for outcome in chain.from_iterable(outcomes.values())))


def _files(target: Target, rendered: Rendered) -> list[tuple[Path, Part]]:
    """The written files of a target with their parts; a single file has no suffix."""
    if rendered.parts:
        return [(target.path_of(part), part) for part in rendered.parts]
    return [(target.path, Part("", rendered.format, rendered.width, rendered.height))]


def _key(held: Claim, task: PlannedTask, file: Part) -> str:
    if file.suffix:
        return f"{parts_prefix(held.job.id, task.id)}{file.suffix}"
    return result_key(held.job.id, task.id, FORMATS[file.format].extension)


def _filename(held: Claim, planned: PlannedResult, file: Part) -> str:
    if file.suffix:
        return f"{base_name(planned.name)}.{file.suffix}"
    return result_filename(held.job.input_filename, planned.name, FORMATS[file.format].extension)


def _targets(held: Claim, folder: Path, inline: Sequence[PlannedTask]) -> dict[str, Target]:
    """The files to write by task, and the intermediate file for further tasks."""
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
    return Target(path, result.encoder, result.params, name=base_name(result.name))


def _result_of(task: PlannedTask) -> PlannedResult:
    if task.result is None:
        raise ValueError(f"task {task.id} plans no result")
    return task.result


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
