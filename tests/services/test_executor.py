"""One task from claim to result, with real pixels: what happens meanwhile, and what is left when it fails."""

import asyncio
import hashlib
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from app.database import Database, from_now
from app.errors import (
    CorruptImage,
)
from app.imaging import pipeline
from app.models import (
    JobStatus,
    Step,
    StepStatus,
)
from app.services import jobs, steps
from app.services.execution.attempts import TASK_FOLDER, LeaseLost
from app.services.execution.delivering import Deliverer
from app.services.execution.executor import Executor
from app.services.execution.input_cache import InputCache
from app.services.execution.sandbox import Sandbox
from app.services.outbox import START_JOB
from app.services.steps import Claim
from app.services.storage.keys import input_key, intermediate_key, result_key
from app.services.storage.local import LocalFolder
from app.services.storage.places import Places
from tests.support.executing import Failing, Meanwhile, attempts_of, events_of, executor_with, upload
from tests.support.waiting import until
from tests.support.work import (
    MAX_ATTEMPTS,
    OVER,
    accept,
    change,
    claim,
    claimed,
    job_of,
    messages,
    states,
    step_of,
)

pytestmark = pytest.mark.usefixtures("_libvips")


# -- the executor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_parts", [False, True], ids=["along", "in parts"])
def test_a_tree_is_run_task_by_task(
    executor: Executor, tmp_path: Path, photo: bytes, in_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_parts:
        monkeypatch.setattr(pipeline, "CHEAP_PIXELS", 0)
    database, storage = executor.database, executor.storage
    job_id = accept(database, content=photo)
    upload(storage, job_id, photo, tmp_path)

    executor.run(job_id, "1", "ann")
    assert states(database, job_id) == {"0": "pending", "0.0": "pending", "0.1": "pending", "1": "succeeded"}
    if in_parts:  # otherwise, small files are written along with what they continue from
        executor.run(job_id, "0", "ann")
        assert (storage.folder / intermediate_key(job_id, "0")).exists()
        assert states(database, job_id) == {"0": "succeeded", "0.0": "pending", "0.1": "pending", "1": "succeeded"}
        executor.run(job_id, "0.1", "ann")
        executor.run(job_id, "0.0", "ann")
    else:
        executor.run(job_id, "0", "ann")
        assert not (storage.folder / intermediate_key(job_id, "0")).exists()
    assert messages(database) == []
    assert attempts_of(database, job_id) == {task: [(1, "succeeded")] for task in ("0", "0.0", "0.1", "1")}
    for task in ("0", "0.0"):  # a second copy of the message, and the first one of what is done
        executor.run(job_id, task, "ann")
    assert all(step.attempts == 1 and step.started_at for step in job_of(database, job_id).steps)

    job = job_of(database, job_id)
    assert job.status == JobStatus.COMPLETED
    assert [(result.name, result.format, result.width, result.height) for result in job.results] == [
        ("resize.convert_webp", "webp", 100, 75),
        ("resize.convert_png", "png", 100, 75),
        ("convert_jpeg", "jpeg", 640, 480),
    ]
    for result in job.results:
        content = (storage.folder / result.key).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (result.bytes, result.sha256)
    assert (storage.folder / result_key(job_id, "0.0", "webp")).exists()
    assert (storage.folder / result_key(job_id, "1", "jpg")).exists()
    assert [result.filename for result in job.results][2] == "photo-convert_jpeg.jpg"
    assert list(executor.spool.glob(f"{TASK_FOLDER}*")) == []


def test_siblings_download_their_upload_once(database: Database, tmp_path: Path, photo: bytes) -> None:
    fetched: list[str] = []

    class Counting(LocalFolder):
        def download_raw(self, key: str, path: Path, *, sha256: str | None = None) -> None:
            fetched.append(key)
            super().download_raw(key, path, sha256=sha256)

    storage = Counting(tmp_path / "objects")
    job_id = accept(database, ["convert_png", "convert_webp", "convert_jpeg"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    executor = executor_with(pipeline.render, database, storage, tmp_path)
    for task in ("0", "1", "2"):
        executor.run(job_id, task, "ann")
    assert set(states(database, job_id).values()) == {"succeeded"}
    assert fetched == [input_key(job_id)]


def test_a_message_that_comes_twice_changes_nothing(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    job_id = accept(executor.database, ["convert_webp"], content=photo)
    upload(executor.storage, job_id, photo, tmp_path)
    executor.run(job_id, "0", "ann")
    before = (executor.storage.folder / result_key(job_id, "0", "webp")).stat().st_mtime_ns
    executor.run(job_id, "0", "ann")
    assert (executor.storage.folder / result_key(job_id, "0", "webp")).stat().st_mtime_ns == before
    assert step_of(executor.database, job_id, "0").attempts == 1
    assert events_of(executor.database, job_id) == ["job.completed"]


def test_the_last_step_of_a_task_has_what_the_task_took(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    tree = [{"op": "resize", "width": 40, "then": [{"op": "flip", "then": ["convert_webp", "convert_png"]}]}]
    job_id = accept(executor.database, tree, content=photo)
    upload(executor.storage, job_id, photo, tmp_path)
    with Sandbox(processes=1) as sandbox:
        render = partial(sandbox.render, timeout=60)
        executor_with(render, executor.database, executor.storage, tmp_path).run(job_id, "0.0", "ann")
    job = job_of(executor.database, job_id)
    first, last, *inline = job.steps
    assert {step.status for step in job.steps} == {"succeeded"}
    assert 0 < last.cpu_seconds < 60
    assert last.pixels == job.input_width * job.input_height
    assert (last.bytes_in, last.bytes_out) == (len(photo), sum(result.bytes for result in job.results))
    assert {step.cpu_seconds for step in (first, *inline)} == {None}


def test_two_attempts_at_one_task_leave_one_result_of_the_same_bytes(
    executor: Executor, tmp_path: Path, photo: bytes
) -> None:
    database, storage = executor.database, executor.storage
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    late = claimed(database, job_id, "0", "ann", lease=OVER)
    executor.run(job_id, "0", "bob")
    path = storage.folder / result_key(job_id, "0", "webp")
    first = path.read_bytes()

    executor._attempt(late)

    assert path.read_bytes() == first
    (result,) = job_of(database, job_id).results
    assert result.sha256 == hashlib.sha256(first).hexdigest()
    assert step_of(database, job_id, "0").attempts == 2
    assert events_of(database, job_id) == ["job.completed"]


def test_a_corrupt_upload_fails_at_the_first_attempt(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    middle = len(photo) // 2
    broken = photo[:middle] + bytes(4000) + photo[middle + 4000 :]
    job_id = accept(executor.database, ["convert_webp"], content=broken)
    upload(executor.storage, job_id, broken, tmp_path)
    executor.run(job_id, "0", "ann")
    step = step_of(executor.database, job_id, "0")
    assert (step.status, step.attempts, step.error) == (StepStatus.FAILED, 1, CorruptImage().as_record())
    assert events_of(executor.database, job_id) == ["job.failed"]
    assert list(executor.spool.glob(f"{TASK_FOLDER}*")) == []


def test_a_missing_upload_fails_at_the_first_attempt(executor: Executor) -> None:
    job_id = accept(executor.database, ["convert_webp"])
    executor.run(job_id, "0", "ann")
    step = step_of(executor.database, job_id, "0")
    assert (step.status, step.attempts) == (StepStatus.FAILED, 1)
    assert step.error is not None
    assert step.error["code"] == "object_not_found"


def test_an_upload_that_arrives_changed_is_fetched_again(executor: Executor, tmp_path: Path, photo: bytes) -> None:
    job_id = accept(executor.database, ["convert_webp"], content=photo)
    upload(executor.storage, job_id, photo[:-100], tmp_path)
    executor.run(job_id, "0", "ann")
    assert states(executor.database, job_id) == {"0": "pending"}
    assert messages(executor.database) == [(START_JOB, [str(job_id), "0"], 2)]

    upload(executor.storage, job_id, photo, tmp_path)
    executor.run(job_id, "0", "ann")
    assert states(executor.database, job_id) == {"0": "succeeded"}


def test_an_unexpected_error_is_repeated_and_tells_nothing(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    executor = executor_with(Meanwhile(lambda: {}["/secret/path"]), database, storage, tmp_path)
    executor.run(job_id, "0", "ann")
    step = step_of(database, job_id, "0")
    assert step.status == StepStatus.PENDING
    assert step.error is not None
    assert step.error["code"] == "internal_error"
    assert "secret" not in str(step.error)
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 2)]


def test_a_job_that_is_cancelled_while_a_task_runs_gets_no_result(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)

    def cancel() -> None:
        with database.session() as session:
            jobs.cancel(session, job_id)

    executor_with(Meanwhile(cancel), database, storage, tmp_path).run(job_id, "0", "ann")
    job = job_of(database, job_id)
    assert (job.status, job.results) == (JobStatus.CANCELLED, [])
    assert states(database, job_id) == {"0": "cancelled"}
    assert not (storage.folder / result_key(job_id, "0", "webp")).exists()
    assert (storage.folder / input_key(job_id)).exists()


def test_a_cancel_removes_what_an_attempt_before_had_stored(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    left = tmp_path / "left by an attempt that died before its row"
    left.write_bytes(b"x")
    storage.upload_processed(result_key(job_id, "0", "webp"), left, content_type="image/webp")

    def cancel_and_notice() -> None:
        with database.session() as session:
            jobs.cancel(session, job_id)
        raise LeaseLost

    executor_with(Meanwhile(cancel_and_notice), database, storage, tmp_path).run(job_id, "0", "ann")
    assert not (storage.folder / result_key(job_id, "0", "webp")).exists()


def test_a_late_attempt_from_before_a_cancel_and_retry_leaves_the_new_object_alone(
    executor: Executor, tmp_path: Path, photo: bytes
) -> None:
    database, storage = executor.database, executor.storage
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    late = claimed(database, job_id, "0", "ann")
    for change_job in (jobs.cancel, partial(jobs.retry, kept_seconds=60)):
        with database.session() as session:
            change_job(session, job_id)
    executor.run(job_id, "0", "bob")
    executor._attempt(late)
    assert (storage.folder / result_key(job_id, "0", "webp")).exists()
    assert states(database, job_id) == {"0": "succeeded"}


def test_a_database_that_is_away_for_a_moment_costs_a_task_nothing(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    for name in ("claim", "succeed"):
        monkeypatch.setattr(steps, name, Failing(getattr(steps, name), 2))
    executor_with(pipeline.render, database, storage, tmp_path).run(job_id, "0", "ann")
    assert states(database, job_id) == {"0": "succeeded"}
    assert step_of(database, job_id, "0").attempts == 1


def test_whoever_has_to_stop_does_not_wait_for_the_database(database: Database) -> None:
    always = Failing(lambda _: None, 1000)
    with pytest.raises(OperationalError):
        database.retry(always, lambda: always.times < 998)
    assert always.times == 997


def test_a_job_that_is_deleted_while_a_task_runs_leaves_no_object(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    tree = [{"op": "resize", "width": 50, "keep": True, "then": ["convert_webp"]}]
    job_id = accept(database, tree, content=photo)
    upload(storage, job_id, photo, tmp_path)

    def remove() -> None:
        with database.session() as session:
            jobs.remove(session, job_id)

    executor_with(Meanwhile(remove), database, storage, tmp_path).run(job_id, "0", "ann")
    for key in (result_key(job_id, "0", "jpg"), result_key(job_id, "0.0", "webp"), intermediate_key(job_id, "0")):
        assert not (storage.folder / key).exists()


@pytest.mark.slow
def test_the_lease_is_kept_as_long_as_the_work_takes(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    others: list[Claim | None] = []

    def work() -> None:
        change(database, update(Step).values(lease_until=from_now(-1)))  # as it would be by now if nothing renewed it
        until(lambda: step_of(database, job_id, "0").lease_until > datetime.now(UTC))
        others.append(claim(database, job_id, "0", "bob"))

    executor = replace(executor_with(Meanwhile(work), database, storage, tmp_path), lease_seconds=4)
    executor.run(job_id, "0", "ann")
    assert others == [None]
    assert states(database, job_id) == {"0": "succeeded"}


# -- attempts and drain ------------------------------------------------------------------------------------------------


def test_an_executor_that_must_stop_hands_back(database: Database, tmp_path: Path, photo: bytes) -> None:
    def render(*args: Any, monitor: Any) -> Any:
        monitor.on_progress(None)
        return pipeline.render(*args, monitor)

    storage = LocalFolder(tmp_path / "objects")
    job_id = accept(database, ["convert_png"], content=photo)
    (tmp_path / "upload").write_bytes(photo)
    with (tmp_path / "upload").open("rb") as file:
        asyncio.run(storage.upload_raw(input_key(job_id), file))
    stopping = threading.Event()
    stopping.set()
    executor = Executor(
        database=database,
        storage=storage,
        renderer_of=lambda _: render,
        deliverer=Deliverer(database, Places()),
        limits=pipeline.Limits(4_000_000, 4000),
        spool=tmp_path,
        inputs=InputCache(tmp_path / "inputs", 0),
        lease_seconds=60,
        max_attempts=MAX_ATTEMPTS,
        must_stop=stopping.is_set,
    )
    executor.run(job_id, "0", "ann")
    assert (step_of(database, job_id, "0").status, step_of(database, job_id, "0").attempts) == ("pending", 0)
    stopping.clear()
    executor.run(job_id, "0", "bob")
    assert (step_of(database, job_id, "0").status, step_of(database, job_id, "0").attempts) == ("succeeded", 1)
