"""What is given up, put off, handed back or removed; on both kinds of database, and with real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from kombu import Connection
from sqlalchemy import select, update
from typer.testing import CliRunner
from uuid_utils.compat import uuid7

from app import metrics
from app.backoff import Backoff
from app.cli import app
from app.database import Database, from_now
from app.errors import JobNotFinished, KnownPoison, PixelProcessDied, StoreUnavailable, TooMuchWork
from app.imaging import pipeline
from app.models import DeadLetter, IdempotencyKey, Job, StepAttempt, StepStatus
from app.operations import DEAD_LETTER_QUEUE
from app.services import dead_letters, jobs, steps
from app.services.dag_builder import Plan
from app.services.dead_letters import Letter
from app.services.execution.executor import Executor
from app.services.execution.input_cache import InputCache
from app.services.intake.backpressure import Backpressure
from app.services.storage.keys import input_key, job_prefix, result_key
from app.services.storage.local import LocalFolder
from app.services.upkeep import retention
from app.services.upkeep.retention import Retention, find_orphans
from app.tasks import drain
from app.tasks.dead_letters import read
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.work import (
    MAX_ATTEMPTS,
    accept,
    change,
    claimed,
    fail,
    job_of,
    messages,
    run_task,
    states,
    step_of,
    succeed,
)

POISONED = ["convert_png"]


def poisoned(database: Database, tree: list[Any] = POISONED) -> UUID:
    """A job whose first task ended every process."""
    job_id = accept(database, tree, content=b"poison")
    for _ in range(MAX_ATTEMPTS):
        assert fail(database, claimed(database, job_id, "0"), PixelProcessDied())
    return job_id


def received(database: Database, job_id: UUID, reason: str = dead_letters.POISON, id_: str = "letter") -> None:
    letter = Letter(id=id_, reason=reason, queue="default_queue", task="pixtools.convert_png", args=[str(job_id), "0"])
    with database.session() as session:
        dead_letters.receive(session, letter)


def letters(database: Database) -> list[DeadLetter]:
    with database.session(read_only=True) as session:
        return dead_letters.newest(session, 100)


def attempts(database: Database, job_id: UUID) -> list[tuple[str, int, str | None, str | None]]:
    with database.session(read_only=True) as session:
        rows = session.scalars(select(StepAttempt).where(StepAttempt.job_id == job_id).order_by(StepAttempt.number))
        return [(row.task, row.number, row.outcome, (row.error or {}).get("code")) for row in rows]


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_poison_goes_to_the_dead_letter_queue_with_the_failure(database: Database) -> None:
    job_id = poisoned(database)
    assert step_of(database, job_id, "0").error["code"] == "poison_input"  # type: ignore[index]
    assert ("pixtools.convert_png", [str(job_id), "0"], 0) in messages(database)


def test_a_letter_is_written_down_once_and_says_what_it_was_about(database: Database) -> None:
    job_id = poisoned(database)
    for _ in range(2):
        received(database, job_id)
    [letter] = letters(database)
    assert (letter.job_id, letter.job_task, letter.operations) == (job_id, "0", ["convert_png"])
    assert letter.input_sha256 == job_of(database, job_id).input_sha256


def test_a_letter_of_the_broker_ends_the_task_that_never_began(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 9, "then": ["convert_webp", "convert_png"]}, "convert_png"])
    received(database, job_id, reason="delivery_limit")
    assert states(database, job_id) == {"0": "failed", "0.0": "skipped", "0.1": "skipped", "1": "pending"}
    run_task(database, job_id, "1")
    received(database, job_id, reason="delivery_limit", id_="another")
    assert step_of(database, job_id, "1").status == StepStatus.SUCCEEDED


@pytest.mark.parametrize("args", [[], ["no id"], [str(uuid4())], [str(uuid7()), "7"], [None, None], [{"a": 1}, 2]])
def test_a_letter_about_nothing_known_is_kept_all_the_same(database: Database, args: list[Any]) -> None:
    with database.session() as session:
        dead_letters.receive(session, Letter(id="x", reason="rejected", queue="q", task="unknown", args=args))
    [letter] = letters(database)
    assert (letter.args, letter.operations, letter.input_sha256) == (args, [], None)


@dataclass
class Junk:
    """What kombu hands out for a message."""

    body: Any
    headers: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "body",
    [
        b"[[NaN], {}, {}]",
        b'[["\\u0000"], {}, {}]',
        b"\x00\xff",
        b"[",
        b"[" * 100_000,
        b"[[" + b"1," * 9_000 + b"1]]",
        7,
    ],
)
def test_a_message_that_no_database_would_take_is_written_down(database: Database, body: Any) -> None:
    letter = read(Junk(body, {"task": "a\0b", "id": None}))
    with database.session() as session:
        dead_letters.receive(session, letter)
    [found] = letters(database)
    assert (found.task, len(found.args)) == ("ab", 1)


def test_messages_without_an_id_are_letters_of_their_own() -> None:
    assert read(Junk(b"one")).id == read(Junk(b"one")).id
    assert read(Junk(b"one")).id != read(Junk(b"two")).id


def refuse(database: Database, content: bytes, tree: list[Any]) -> None:
    other = job_of(database, accept(database, tree, content=content))
    with database.session(read_only=True) as session:
        dead_letters.refuse_known(session, other.input_sha256, Plan.from_json(other.plan))


def test_the_same_upload_for_the_same_work_is_refused_until_it_is_redriven_or_forgotten(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with pytest.raises(KnownPoison, match="convert_png"):
        refuse(database, b"poison", ["convert_webp", "convert_png"])
    refuse(database, b"poison", ["convert_webp"])
    refuse(database, b"other", ["convert_png"])
    with database.session() as session:
        dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    refuse(database, b"poison", ["convert_png"])
    received(database, poisoned(database), id_="second")
    with database.session() as session:
        assert dead_letters.purge(session, ["second"]) == 1
    refuse(database, b"poison", ["convert_png"])


def test_a_redriven_job_runs_again(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} runs again"
    run_task(database, job_id, "0")
    assert states(database, job_id) == {"0": "succeeded"}
    assert letters(database) == []


def test_a_letter_whose_job_is_gone_can_be_redriven(database: Database) -> None:
    job_id = poisoned(database)
    received(database, job_id)
    with database.session() as session:
        jobs.remove(session, job_id)
    with database.session() as session:
        assert "gone" in dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)


def test_a_step_that_failed_in_an_open_job_stays_listed_until_the_job_has_ended(database: Database) -> None:
    job_id = poisoned(database, ["convert_png", "convert_webp"])
    received(database, job_id)
    messages(database)
    with pytest.raises(JobNotFinished), database.session() as session:
        dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert [letter.job_id for letter in letters(database)] == [job_id], "it stays listed"
    assert messages(database) == []
    run_task(database, job_id, "1")
    messages(database)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} runs again"
    run_task(database, job_id, "0")
    assert letters(database) == []


def test_a_job_whose_first_message_was_given_up_is_sent_again(database: Database) -> None:
    job_id = accept(database)
    letter = Letter(
        id="x", reason="delivery_limit", queue="default_queue", task="pixtools.start_job", args=[str(job_id)]
    )
    with database.session() as session:
        dead_letters.receive(session, letter)
    with database.session() as session:
        said = dead_letters.redrive(session, dead_letters.newest(session, 1)[0], kept_seconds=60)
    assert said == f"job {job_id} is still open; what it lacks is sent again"
    assert messages(database) == [("pixtools.start_job", [str(job_id)], 0)]
    assert letters(database) == []


@pytest.mark.parametrize("command", ["redrive", "purge"])
@pytest.mark.parametrize("arguments", [[], ["--all", "some-id"]])
def test_a_command_about_dead_letters_must_name_them(tmp_path: Path, command: str, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["dlq", command, *arguments], env={"PIXTOOLS_DATA_DIR": str(tmp_path)})
    assert done.exit_code == 2
    assert "--all" in done.output
    assert not list(tmp_path.iterdir())


# -- attempts and drain ------------------------------------------------------------------------------------------------


def test_every_attempt_leaves_a_trace(database: Database) -> None:
    job_id = accept(database, ["convert_png"])
    claimed(database, job_id, "0", "ann", lease=-1)
    assert fail(database, claimed(database, job_id, "0", "bob"), PixelProcessDied())
    assert succeed(database, claimed(database, job_id, "0", "cat"))
    assert attempts(database, job_id) == [
        ("0", 1, "lost", None),
        ("0", 2, "failed", "pixel_process_died"),
        ("0", 3, "succeeded", None),
    ]


def test_a_task_that_is_handed_back_costs_no_attempt(database: Database) -> None:
    job_id = accept(database, ["convert_png"])
    held = claimed(database, job_id, "0", "ann")
    with database.session() as session:
        assert steps.hand_back(session, held)
    step = step_of(database, job_id, "0")
    assert (step.status, step.attempts, step.lease_owner) == (StepStatus.PENDING, 0, None)
    assert messages(database) == [("pixtools.start_job", [str(job_id), "0"], 0)]
    assert attempts(database, job_id) == []
    assert not succeed(database, held)
    with database.session() as session:
        assert not steps.hand_back(session, held)
    assert claimed(database, job_id, "0", "bob").attempt == 1


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


def test_the_time_to_drain() -> None:
    drain.reset()
    assert not drain.is_over()
    drain.begin(60)
    assert not drain.is_over()
    drain.begin(0)
    assert drain.is_over()
    drain.reset()


# -- retention ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "objects")


def store(storage: LocalFolder, key: str, folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    storage.upload_processed(key, folder / "file", content_type="image/png")


def keys(storage: LocalFolder) -> set[str]:
    return {key for key, _ in storage.entries("jobs/")}


def ended_job(database: Database) -> UUID:
    job_id = accept(database, ["convert_png"])
    with database.session() as session:
        jobs.cancel(session, job_id)
    return job_id


def cleaner(database: Database, storage: LocalFolder) -> Retention:
    return Retention(database, storage, every_seconds=60, letters_kept_seconds=60, events_kept_seconds=60)


def test_expired_jobs_go_with_their_objects_and_others_stay(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    old, kept, running = [ended_job(database) for _ in range(5)], ended_job(database), accept(database)
    for job_id in [*old, kept, running]:
        store(storage, input_key(job_id), tmp_path)
    change(database, update(Job).where(Job.id.in_([*old, running])).values(expires_at=from_now(-1)))
    assert cleaner(database, storage).run_once() == 5
    assert keys(storage) == {input_key(kept), input_key(running)}
    with database.session(read_only=True) as session:
        assert set(session.scalars(select(Job.id))) == {kept, running}


class Stubborn(LocalFolder):
    """A storage that does not delete what lies below some prefixes, as one with a legal hold does."""

    held: tuple[str, ...] = ()

    async def delete_prefix(self, prefix: str) -> int:
        if prefix.startswith(self.held):
            raise StoreUnavailable
        return await super().delete_prefix(prefix)


def test_what_cannot_be_deleted_holds_up_nothing_else(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "PAUSES", Backoff(first=2.0, longest=3600.0))
    storage = Stubborn(tmp_path / "objects")
    old = [ended_job(database) for _ in range(9)]
    for number, job_id in enumerate(old):
        store(storage, input_key(job_id), tmp_path)
        change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(number - 100)))
    held = old[:2]  # the oldest: what every turn would begin with
    storage.held = tuple(job_prefix(job_id) for job_id in held)
    cleaning = cleaner(database, storage)
    failures = metrics.RETENTION_FAILURES._value.get()
    assert cleaning.run_once() == 7
    assert metrics.RETENTION_FAILURES._value.get() == failures + 2
    assert keys(storage) == {input_key(job_id) for job_id in held}
    assert cleaning.run_once() == 0
    assert metrics.RETENTION_FAILURES._value.get() == failures + 2, "they are passed over for a while"
    storage.held = ()
    time.sleep(2.1)
    assert cleaning.run_once() == 2
    assert keys(storage) == set()


def test_a_storage_that_deletes_nothing_does_not_keep_keys_and_letters(database: Database, tmp_path: Path) -> None:
    storage = Stubborn(tmp_path / "objects")
    storage.held = ("jobs/",)
    job_id, other = ended_job(database), ended_job(database)
    change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(-1)))
    with database.session() as session:
        session.add(
            IdempotencyKey(caller="c", key="k", fingerprint="f", job_id=other, response={}, expires_at=from_now(-1))
        )
    assert cleaner(database, storage).run_once() == 0
    with database.session(read_only=True) as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == []


def test_expired_idempotency_keys_go(database: Database, storage: LocalFolder) -> None:
    job_id = ended_job(database)
    with database.session() as session:
        for name, seconds in (("old", -1), ("new", 60)):
            session.add(
                IdempotencyKey(
                    caller="c", key=name, fingerprint="f", job_id=job_id, response={}, expires_at=from_now(seconds)
                )
            )
    cleaner(database, storage).run_once()
    with database.session(read_only=True) as session:
        assert list(session.scalars(select(IdempotencyKey.key))) == ["new"]


def test_orphans_of_both_kinds_are_found(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 2)
    whole, torn = accept(database, ["convert_png"]), accept(database, ["convert_png"])
    for job_id in (whole, torn):
        run_task(database, job_id, "0")
    with database.session() as session:
        for job_id in (whole, torn):
            key = result_key(job_id, "0", "png")
            session.execute(update(retention.Result).where(retention.Result.job_id == job_id).values(key=key))
    store(storage, input_key(whole), tmp_path)
    store(storage, result_key(whole, "0", "png"), tmp_path)
    lost = [input_key(old_id()) for _ in range(3)] + ["jobs/no-id/input"]
    for key in [*lost, input_key(uuid7())]:  # the last one may be an upload that is being accepted
        store(storage, key, tmp_path)
    found = find_orphans(database, storage)
    assert sorted(found.objects) == sorted(lost)
    assert sorted(found.rows) == sorted([input_key(torn), result_key(torn, "0", "png")])


def old_id() -> UUID:
    """A UUIDv7 of 1970."""
    return UUID(int=uuid7().int & (1 << 80) - 1)


def test_a_job_that_is_in_use_does_not_expire(
    database: Database, storage: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that comes just now is not lost: whoever removes passes over what somebody has locked."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    job_id = ended_job(database)
    store(storage, input_key(job_id), tmp_path)
    change(database, update(Job).where(Job.id == job_id).values(expires_at=from_now(-1)))
    remover = cleaner(database, storage)
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
        assert remover.run_once() == 0
    assert remover.run_once() == 0
    assert keys(storage) == {input_key(job_id)}


def test_old_dead_letters_go(database: Database, storage: LocalFolder) -> None:
    for id_ in ("old", "new"):
        received(database, poisoned(database), id_=id_)
    change(database, update(DeadLetter).where(DeadLetter.id == "old").values(created_at=from_now(-61)))
    cleaner(database, storage).run_once()
    assert [letter.id for letter in letters(database)] == ["new"]


# -- backpressure ------------------------------------------------------------------------------------------------------


def test_too_much_work_is_put_off_and_taken_again(database: Database) -> None:
    def checked(limit: int) -> None:
        other = Database(database.url().render_as_string(hide_password=False).replace("+psycopg", ""))

        async def run() -> None:
            try:
                await Backpressure(other, limit).check()
            finally:
                await other.aclose()

        asyncio.run(run())

    waiting = [accept(database, ["convert_png"]) for _ in range(3)]
    checked(4)
    with pytest.raises(TooMuchWork) as caught:
        checked(3)
    assert (caught.value.limit, caught.value.value, caught.value.retry_after) == (3, 3, 30)
    with database.session() as session:
        jobs.cancel(session, waiting[0])
    checked(3)


# -- with real processes -----------------------------------------------------------------------------------------------


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env=deployment.variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def listed(deployment: Deployment) -> list[str]:
    return command(deployment, "dlq", "list").stdout.splitlines()


def until(what: Any, seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.mark.integration
def test_a_full_server_answers_before_it_reads_the_upload(tmp_path: Path) -> None:
    deployment = embedded(tmp_path, PIXTOOLS_MAX_OPEN_JOBS="1")
    try:
        deployment.start()
        with deployment.client() as api:
            photo = make_photo(900, 900)
            slow = api.accepted(photo, ["denoise"])["id"]
            time.sleep(1.1)  # that a count is good for
            headers = {"content-type": "multipart/form-data; boundary=x"}
            answer = httpx.post(f"{deployment.url}/process", headers=headers, content=b"--x\r\n".ljust(2_000_000))
            assert answer.status_code == 503
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_much_work", "30")
            assert api.http.post(f"/jobs/{slow}/cancel").status_code == 200
            time.sleep(1.1)
            assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"
    finally:
        deployment.kill()


@pytest.mark.integration
def test_an_orderly_stop_of_the_embedded_server_costs_no_attempt(tmp_path: Path) -> None:
    deployment = embedded(tmp_path)
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1200, 1200), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
        deployment.stop()
        deployment.start()
        with deployment.client() as api:
            step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
            assert step["attempts"] == 1
            api.http.post(f"/jobs/{job_id}/cancel")
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_worker_that_is_stopped_hands_its_task_to_the_next(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers, PIXTOOLS_DRAIN_SECONDS="0.5")
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1200, 1200), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            ml_worker = deployment.processes[2]
            ml_worker.send_signal(signal.SIGTERM)
            assert ml_worker.wait(20) == 0
            step = api.job(job_id)["steps"][0]
            assert (step["status"], step["attempts"]) == ("pending", 0)
            deployment.processes[2] = deployment.restart(2)
            step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
            assert step["attempts"] == 1
            api.http.post(f"/jobs/{job_id}/cancel")
    finally:
        deployment.kill()


def pixel_processes(deployment: Deployment) -> set[int]:
    """Ids of the running pixel processes of a deployment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            arguments = (path.parent / "cmdline").read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"app.imaging.child" in arguments and _descends(parent, {process.pid for process in deployment.processes}):
            found.add(int(path.parent.name))
    return found


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["embedded", "cluster"])
def test_poison_is_given_up_listed_refused_and_redriven(
    tmp_path: Path, mode: str, request: pytest.FixtureRequest
) -> None:
    """Every pixel process that takes the task is killed, as the system does when memory is short."""
    settings = {"PIXTOOLS_STEP_MAX_ATTEMPTS": "2"}
    if mode == "embedded":
        deployment = embedded(tmp_path, **settings)
    else:
        deployment = cluster(tmp_path, request.getfixturevalue("cluster_servers"), **settings)
    photo, tree = make_photo(1500, 1500), ["denoise", "convert_png"]
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(photo, tree)["id"]

            def given_up() -> Any:
                step = api.job(job_id)["steps"][0]
                if step["status"] == "running" and step["progress"] > 0:
                    for pid in pixel_processes(deployment):
                        os.kill(pid, signal.SIGKILL)
                return step["status"] == "failed" and step

            assert until(given_up, 90)["error"]["code"] == "poison_input"
            job = api.ended(job_id)
            assert job["status"] == "completed_with_errors"
            assert [result["name"] for result in job["results"]] == ["convert_png"]

            [line] = until(lambda: listed(deployment))
            letter_id = line.split()[0]
            assert job_id in line
            shown = json.loads(command(deployment, "dlq", "show", letter_id).stdout)
            assert (shown["reason"], shown["operations"]) == ("poison_input", ["denoise"])

            refused = api.process(photo, tree)
            assert (refused.status_code, refused.json()["code"]) == (422, "known_poison")
            assert api.run(photo, ["convert_webp"])["status"] == "completed"

            assert "runs again" in command(deployment, "dlq", "redrive", letter_id).stdout
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            assert api.process(photo, tree).status_code == 202
            assert command(deployment, "dlq", "list").stdout == ""
            assert command(deployment, "dlq", "purge", "--all").stdout == "1 forgotten\n"
    finally:
        deployment.kill()


@pytest.mark.integration
def test_rabbitmq_gives_up_what_no_worker_can_take(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """A message of a task that no worker knows is rejected, and written down."""
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            api.run(make_photo(64, 64), ["convert_png"])  # then there is a worker, and its queues
        with Connection(deployment.environment["PIXTOOLS_BROKER_URL"]) as connection:
            producer = connection.Producer()
            headers = {"task": "pixtools.of_tomorrow", "id": "message-of-tomorrow", "lang": "py"}
            producer.publish(
                [[str(uuid7()), "0"], {}, {}],
                exchange="pixtools",
                routing_key="default_queue",
                headers=headers,
                serializer="json",
                delivery_mode=2,
            )
            [line] = until(lambda: listed(deployment))
            assert line.startswith("message-of-tomorrow")
            assert "rejected" in line
            with connection.channel() as channel:
                assert channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).message_count == 0
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_relay_of_its_own_does_the_work_of_the_apis(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers)
    deployment.commands.append(["app", "relay"])
    try:
        deployment.start()
        with deployment.client() as api:
            assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"
        deployment.processes[-1].send_signal(signal.SIGTERM)
        assert deployment.processes[-1].wait(10) == 0
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_cancel_ends_the_pixel_process_of_a_cluster(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1500, 1500), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            before = pixel_processes(deployment)
            api.http.post(f"/jobs/{job_id}/cancel")
            until(lambda: before - pixel_processes(deployment), 10)
    finally:
        deployment.kill()


@pytest.mark.integration
def test_jobs_end_while_redis_is_away(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Redis only counts chords, and marks keys; without it the database knows as well."""
    deployment = cluster(tmp_path, cluster_servers)
    tree = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]
    try:
        deployment.start()
        cluster_servers.redis.stop()
        with deployment.client() as api:
            headers = {"Idempotency-Key": uuid4().hex}
            waiting = [api.accepted(make_photo(64, 48), tree, headers=headers)["id"]]
            waiting += [api.accepted(make_photo(64, 48), tree)["id"] for _ in range(5)]
            assert {api.ended(job_id)["status"] for job_id in waiting} == {"completed"}
    finally:
        deployment.kill()
        cluster_servers.redis.start()


@pytest.mark.integration
def test_redis_counts_chords_and_keeps_nothing_else(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Otherwise every job would leave keys, and subscriptions that last as long as the worker."""
    deployment = cluster(tmp_path, cluster_servers)
    server = redis.Redis.from_url(cluster_servers.redis.url, decode_responses=True)
    server.flushall()
    tree = [{"op": "resize", "width": 32, "then": ["convert_webp", {"op": "flip", "then": ["convert_png"]}]}]
    try:
        deployment.start()
        with deployment.client() as api:
            assert api.run(make_photo(64, 48), tree)["status"] == "completed"
        [counted] = until(lambda: list(server.scan_iter("*.ended")))
        until(lambda: server.scard(counted) == int(server.get(counted.replace(".ended", ".s"))) == 2)
        assert {key.rpartition(".")[2] for key in server.scan_iter("celery-*")} == {"ended", "s"}
        assert all(0 < server.ttl(key) <= 3600 for key in server.scan_iter("celery-*"))
        assert server.pubsub_channels("celery-task-meta-*") == []
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_restart_of_the_database_costs_seconds(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    """Tasks wait for it where they are: nothing is left to leases of a minute and looks after ten."""
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            waiting = [api.accepted(make_photo(640, 480), ["convert_webp", "convert_png"])["id"] for _ in range(30)]
            cluster_servers.postgresql.kill()
            time.sleep(2)
            cluster_servers.postgresql.start()
            until(lambda: api.http.get("/health/ready").is_success)
            assert {api.ended(job_id, 45)["status"] for job_id in waiting} == {"completed"}
    finally:
        deployment.kill()
