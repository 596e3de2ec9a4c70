"""Small files written by the task of a sibling: what they cost, and what they never do."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from PIL import Image

from app.database import Database
from app.errors import PixelProcessDied, PixToolsError, StepTimedOut
from app.imaging import pipeline
from app.imaging.recipe import Limits, Monitor, Rendered, Stage, Target, When
from app.models import (
    JobStatus,
    StepStatus,
)
from app.services import jobs
from app.services.execution.executor import Executor
from app.services.storage.keys import intermediate_key
from app.services.storage.local import LocalFolder
from tests.support.executing import Meanwhile, executor_with, upload
from tests.support.work import (
    OVER,
    accept,
    claimed,
    job_of,
    states,
    step_of,
)

pytestmark = pytest.mark.usefixtures("_libvips")


def test_files_written_along_are_those_of_tasks_of_their_own(
    executor: Executor, tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for most in (pipeline.CHEAP_PIXELS, 0):
        monkeypatch.setattr(pipeline, "CHEAP_PIXELS", most)
        job_id = accept(executor.database, content=photo)
        upload(executor.storage, job_id, photo, tmp_path)
        for task in ("0", "0.0", "0.1", "1"):
            executor.run(job_id, task, "ann")
        digests.append([result.sha256 for result in job_of(executor.database, job_id).results])
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_what_cannot_be_written_along_fails_alone(database: Database, storage: LocalFolder, tmp_path: Path) -> None:
    """A file that no WebP can hold."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 16384)).save(buffer, "PNG")
    tree = [{"op": "flip", "then": ["convert_webp", "convert_png"]}]
    job_id = accept(database, tree, content=buffer.getvalue())
    upload(storage, job_id, buffer.getvalue(), tmp_path)
    executor = replace(executor_with(pipeline.render, database, storage, tmp_path), limits=Limits(4_000_000, 16384))

    executor.run(job_id, "0", "ann")
    assert states(database, job_id) == {"0": "succeeded", "0.0": "pending", "0.1": "succeeded"}
    executor.run(job_id, "0.0", "ann")
    step = step_of(database, job_id, "0.0")
    assert (step.status, step.error and step.error["code"]) == ("failed", "image_too_large")
    assert job_of(database, job_id).status == JobStatus.COMPLETED_WITH_ERRORS
    assert [result.step_id for result in job_of(database, job_id).results] == ["0.1"]


@dataclass
class Overburdened:
    """Renders what has to be, and ends when it is asked for anything more."""

    error: type[PixToolsError]
    wanted: list[int] = field(default_factory=list)

    def __call__(
        self, source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, *, monitor: Monitor
    ) -> list[Rendered | None]:
        self.wanted.append(len(targets))
        if any(target.when is When.CHEAP for target in targets):
            raise self.error
        return pipeline.render(source, stages, targets, limits, monitor)


@pytest.mark.parametrize("error", [PixelProcessDied, StepTimedOut])
def test_what_goes_along_never_costs_a_task_its_success(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes, error: type[PixToolsError]
) -> None:
    job_id = accept(database, content=photo)
    upload(storage, job_id, photo, tmp_path)
    renderer = Overburdened(error)
    executor = executor_with(renderer, database, storage, tmp_path)
    executor.run(job_id, "0", "ann")
    assert renderer.wanted == [3, 1]
    assert states(database, job_id) == {"0": "succeeded", "0.0": "pending", "0.1": "pending", "1": "pending"}
    executor.run(job_id, "0.0", "ann")
    assert step_of(database, job_id, "0.0").status == StepStatus.SUCCEEDED


def test_nothing_goes_along_with_a_second_attempt(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    """The first one may have ended its whole worker."""
    job_id = accept(database, content=photo)
    upload(storage, job_id, photo, tmp_path)
    claimed(database, job_id, "0", "bob", lease=OVER)
    executor_with(pipeline.render, database, storage, tmp_path).run(job_id, "0", "ann")
    assert states(database, job_id) == {"0": "succeeded", "0.0": "pending", "0.1": "pending", "1": "pending"}
    assert (storage.folder / intermediate_key(job_id, "0")).exists()


def test_what_goes_along_reports_for_itself(executor: Executor, tmp_path: Path) -> None:
    database, storage = executor.database, executor.storage
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 120, 240)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    job_id = accept(database, [{"op": "trim", "then": ["convert_png", "convert_webp"]}], content=buffer.getvalue())
    upload(storage, job_id, buffer.getvalue(), tmp_path)
    executor.run(job_id, "0", "ann")
    assert states(database, job_id) == dict.fromkeys(("0", "0.0", "0.1"), "succeeded")
    reports = {step.id: step.report for step in job_of(database, job_id).steps}
    assert reports == {
        "0": {"left": 0, "top": 0, "width": 8, "height": 8},
        "0.0": {"lost": {"animation": {"reason": "format", "frames": 3, "written": 1}}},
        "0.1": None,
    }


def test_a_task_of_an_ended_job_takes_nothing_along(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    """Cancelled while it ran, and repeated: everything is done once."""
    database, storage = executor.database, executor.storage
    job_id = accept(database, content=photo)
    upload(storage, job_id, photo, tmp_path)

    def cancel() -> None:
        with database.session() as session:
            jobs.cancel(session, job_id)

    executor_with(Meanwhile(cancel), database, storage, tmp_path).run(job_id, "0", "ann")
    assert set(states(database, job_id).values()) == {"cancelled"}
    assert job_of(database, job_id).results == []
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
    executor.run(job_id, "0", "bob")
    assert states(database, job_id) == {"0": "succeeded", "0.0": "succeeded", "0.1": "succeeded", "1": "pending"}
    assert len(job_of(database, job_id).results) == 2
