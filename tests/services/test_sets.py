"""A step that gives several results: stored, recorded, repeated and removed as one."""

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.database import from_now
from app.errors import InvalidOperations
from app.models import JobStatus, Result, Step, StepStatus
from app.services import jobs
from app.services.dag_builder import plan
from app.services.execution.executor import Executor
from app.services.execution.sandbox import Sandbox
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.storage.archive import stream_archive
from app.services.storage.filenames import MAX_FILENAME, base_name
from app.services.storage.keys import job_prefix, parts_prefix
from app.services.storage.local import LocalFolder
from app.services.upkeep.retention import find_orphans
from tests.support.executing import Meanwhile, events_of, executor_with, upload
from tests.support.work import OVER, accept, change, claimed, job_of, step_of

pytestmark = pytest.mark.usefixtures("_libvips")

WEB: dict[str, Any] = {"op": "web", "widths": [160, 80, 9000], "formats": ["webp", "jpeg"], "as": "hero"}
SUFFIXES = ["80.jpg", "80.webp", "160.jpg", "160.webp", "640.jpg", "640.webp", "manifest.json", "picture.html"]
NAMES = [f"hero.{suffix}" for suffix in SUFFIXES]
LIMITS = TreeLimits(nodes=40, depth=5, bytes=10_000)


def _accepted(executor: Executor, folder: Path, photo: bytes, *before: Any) -> UUID:
    job_id = accept(executor.database, [*before, WEB], content=photo)
    upload(executor.storage, job_id, photo, folder)
    return job_id


def _stored(storage: LocalFolder, job_id: UUID, task: str = "0") -> dict[str, bytes]:
    prefix = parts_prefix(job_id, task)
    return {key.removeprefix(prefix): (storage.folder / key).read_bytes() for key, _ in storage.entries(prefix)}


def test_a_step_gives_every_file_of_a_set(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    job_id = _accepted(executor, tmp_path, photo)
    with Sandbox(processes=1) as sandbox:  # what a child answers is read again
        render = partial(sandbox.render, timeout=60)
        executor_with(render, executor.database, executor.storage, tmp_path).run(job_id, "0", "ann")
    job = job_of(executor.database, job_id)
    assert (job.status, [result.name for result in job.results]) == (JobStatus.COMPLETED, NAMES)
    assert {result.filename for result in job.results} == set(NAMES), "they name one another"
    assert [(result.width, result.height) for result in job.results][::2] == [
        (80, 60),
        (160, 120),
        (640, 480),
        (None, None),
    ]
    assert [result.content_type for result in job.results][-3:] == ["image/webp", "application/json", "text/html"]
    stored = _stored(executor.storage, job_id)
    assert {f"hero.{suffix}": len(content) for suffix, content in stored.items()} == {
        result.name: result.bytes for result in job.results
    }
    manifest = json.loads(stored["manifest.json"])
    assert [image["file"] for image in manifest["images"]] == [NAMES[place] for place in (1, 3, 5, 0, 2, 4)]
    [step] = job.steps
    lost = {"exif": {"reason": "keep_metadata"}}
    assert step.report == {"widths": [80, 160, 640], "capped": {"widths": [9000], "to": 640}, "lost": lost}
    assert step.bytes_out == sum(result.bytes for result in job.results)
    assert events_of(executor.database, job_id) == ["job.completed"]


def test_a_set_beside_other_results_ends_the_job_once(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    job_id = _accepted(executor, tmp_path, photo, "convert_png")
    executor.run(job_id, "1", "ann")
    assert job_of(executor.database, job_id).status == JobStatus.PROCESSING
    executor.run(job_id, "0", "ann")
    job = job_of(executor.database, job_id)
    assert [result.name for result in job.results] == ["convert_png", *NAMES]
    assert events_of(executor.database, job_id) == ["job.completed"]


def test_a_worker_that_dies_before_it_records_is_followed_by_one_that_stores_the_same(
    executor: Executor, tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, storage = executor.database, executor.storage
    job_id = _accepted(executor, tmp_path, photo)
    late = claimed(database, job_id, "0", "ann", lease=OVER)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(Executor, "_succeed", die)
        with pytest.raises(Killed):
            executor._attempt(late)
    first = _stored(storage, job_id)
    assert sorted(first) == sorted(SUFFIXES)
    assert job_of(database, job_id).results == []

    change(database, update(Step).where(Step.job_id == job_id).values(lease_until=from_now(OVER)))
    executor.run(job_id, "0", "bob")
    assert _stored(storage, job_id) == first
    assert [result.name for result in job_of(database, job_id).results] == NAMES
    assert step_of(database, job_id, "0").attempts == 2

    executor._attempt(late)  # it was only slow
    assert len(job_of(database, job_id).results) == len(NAMES)
    assert events_of(database, job_id) == ["job.completed"]


@pytest.mark.parametrize("end", [jobs.cancel, jobs.remove], ids=["cancelled", "deleted"])
def test_a_job_that_ends_meanwhile_leaves_no_file_of_a_set(
    executor: Executor, tmp_path: Path, photo: bytes, end: Callable[..., object]
) -> None:
    database, storage = executor.database, executor.storage
    job_id = _accepted(executor, tmp_path, photo)

    def meanwhile() -> None:
        with database.session() as session:
            end(session, job_id)

    executor_with(Meanwhile(meanwhile), database, storage, tmp_path).run(job_id, "0", "ann")
    assert _stored(storage, job_id) == {}


def test_a_set_that_cannot_be_made_fails_its_step_alone(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    tree = ["convert_png", {"op": "web", "bytes_step": 1000, "max_images": 2, "formats": ["jpeg"], "min_width": 10}]
    job_id = accept(executor.database, tree, content=photo)
    upload(executor.storage, job_id, photo, tmp_path)
    for task in ("0", "1"):
        executor.run(job_id, task, "ann")
    job = job_of(executor.database, job_id)
    assert (job.status, [result.name for result in job.results]) == (JobStatus.COMPLETED_WITH_ERRORS, ["convert_png"])
    step = step_of(executor.database, job_id, "1")
    assert (step.status, (step.error or {})["code"]) == (StepStatus.FAILED, "target_unreachable")
    assert "`max_images` of 2 is too few" in (step.error or {})["message"]
    assert _stored(executor.storage, job_id, "1") == {}


def test_the_archive_has_every_file_under_the_name_that_the_picture_gives_it(
    executor: Executor, tmp_path: Path, photo: bytes
) -> None:
    job_id = _accepted(executor, tmp_path, photo)
    executor.run(job_id, "0", "ann")

    async def read() -> bytes:
        job = job_of(executor.database, job_id)
        return b"".join([chunk async for chunk in stream_archive(job, executor.storage)])

    with zipfile.ZipFile(io.BytesIO(asyncio.run(read()))) as archive:
        assert sorted(archive.namelist()) == sorted(NAMES)
        manifest = json.loads(archive.read("hero.manifest.json"))
        assert {image["file"] for image in manifest["images"]} < set(archive.namelist())


def test_no_file_of_a_set_is_an_orphan_and_all_of_them_go_with_the_job(
    executor: Executor, tmp_path: Path, photo: bytes
) -> None:
    database, storage = executor.database, executor.storage
    job_id = _accepted(executor, tmp_path, photo)
    executor.run(job_id, "0", "ann")
    found = find_orphans(database, storage)
    assert (found.objects, found.rows) == ([], [])
    storage.delete(f"{parts_prefix(job_id, '0')}160.webp")
    assert find_orphans(database, storage).rows == [f"{parts_prefix(job_id, '0')}160.webp"]

    with database.session() as session:
        jobs.remove(session, job_id)
    asyncio.run(storage.delete_prefix(job_prefix(job_id)))
    assert list(storage.entries(job_prefix(job_id))) == []
    with database.session(read_only=True) as session:
        assert session.scalars(select(Result.name)).all() == []


# -- names -------------------------------------------------------------------------------------------------------------


def _names(tree: list[Any]) -> list[str]:
    _, branches = parse_tree(json.dumps(tree), LIMITS)
    return [task.result.name for task in plan(branches, "jpeg").tasks if task.result]


def test_no_result_has_the_name_of_a_file_of_a_set() -> None:
    for taken in ("hero.80.webp", "HERO.manifest.json"):
        with pytest.raises(InvalidOperations) as refused:
            _names([WEB, {"op": "convert_webp", "as": taken}])
        assert refused.value.code == "duplicate_result_name"
    assert _names([WEB, {"op": "convert_webp", "as": "hero-80"}]) == ["hero", "hero-80"]
    assert _names(["web", {"op": "convert_webp", "as": "web.80.webp"}]) == ["web-2", "web.80.webp"]
    assert _names(["web", "web"]) == ["web", "web-2"]


def test_nothing_continues_from_a_set() -> None:
    with pytest.raises(InvalidOperations, match="ends a branch"):
        _names([{**WEB, "then": ["convert_png"]}])


def test_the_names_of_files_have_room_for_what_tells_them_apart() -> None:
    assert base_name("hero") == "hero"
    assert len(f"{base_name('x.' * 200)}.16384.webp") <= MAX_FILENAME
    assert base_name("x." * 200) != base_name("x." * 201)


def test_pixels_are_not_asked_of_what_is_no_image(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    job_id = accept(executor.database, ["metadata"], content=photo)
    upload(executor.storage, job_id, photo, tmp_path)
    executor.run(job_id, "0", "ann")
    [result] = job_of(executor.database, job_id).results
    assert (result.format, result.width, result.height) == ("json", None, None)
