"""What the database says about what waits, and the timeline of a job."""

from uuid import uuid4

import pytest
from sqlalchemy import update

from app.database import Database, from_now
from app.errors import CorruptImage, JobNotFound, StoreUnavailable
from app.models import DeadLetter, Job, OutboxMessage, Step
from app.operations import Queue
from app.services import dead_letters, outbox
from app.services.dead_letters import Letter
from app.services.monitoring import timeline
from app.services.monitoring.backlog import Backlog, measure
from tests.support.work import accept, change, claimed, fail, job_of, messages, run_task

ML_TREE: list[object] = [{"op": "resize", "width": 100, "then": ["denoise"]}]
AGE = 40.0  # seconds
EXACT = 9.0  # seconds that a slow test may be off


def looked(database: Database) -> Backlog:
    with database.session(read_only=True) as session:
        return measure(session)


def about(age: float) -> object:
    return pytest.approx(age, abs=EXACT)


def test_nothing_waits_in_an_empty_database(database: Database) -> None:
    assert looked(database) == Backlog(
        outbox_waiting=0,
        due_tasks={},
        outbox_lag_seconds=0.0,
        open_jobs={},
        tenant_open_jobs=0,
        queue_age_seconds={},
        steps_running={},
        dead_letters=0,
        webhooks_pending=0,
    )


def test_jobs_and_steps_by_state(database: Database) -> None:
    running, waiting = accept(database), accept(database)
    claimed(database, running, "1")
    assert looked(database).open_jobs == {"processing": 1, "pending": 1}
    assert looked(database).steps_running == {"default_queue": 1}
    change(database, update(Job).where(Job.id == waiting).values(status="failed", finished_at=from_now()))
    assert looked(database).open_jobs == {"processing": 1}


def test_the_age_of_a_queue_is_of_jobs_of_which_nothing_runs(database: Database) -> None:
    job_id = accept(database, ML_TREE)
    change(database, update(Job).values(dispatched_at=from_now(-AGE)))
    ages = looked(database).queue_age_seconds
    assert ages == {Queue.DEFAULT: about(AGE), Queue.ML: about(AGE)}
    held = claimed(database, job_id, "0")
    assert looked(database).queue_age_seconds == {}
    del held
    change(database, update(Step).where(Step.id == "0").values(status="succeeded", finished_at=from_now(-AGE / 2)))
    assert looked(database).queue_age_seconds == {Queue.ML: about(AGE / 2)}


def test_lag_is_of_what_is_due_or_could_not_be_sent(database: Database) -> None:
    with database.session() as session:
        outbox.enqueue(session, outbox.START_JOB, ["later"], delay=1000)
    assert (looked(database).outbox_waiting, looked(database).outbox_lag_seconds) == (0, 0.0)
    with database.session() as session:
        outbox.enqueue(session, outbox.START_JOB, ["now"])
    change(database, update(OutboxMessage).where(OutboxMessage.args.is_not(None)).values(created_at=from_now(-AGE)))
    assert looked(database).outbox_waiting == 1
    assert looked(database).outbox_lag_seconds == about(0.0)
    change(database, update(OutboxMessage).values(attempts=1, available_at=from_now(1000)))
    assert looked(database).outbox_waiting == 2
    assert looked(database).outbox_lag_seconds == about(AGE)


def test_dead_letters_count_until_they_are_sent_again(database: Database) -> None:
    job_id = accept(database)
    letter = Letter(id=uuid4().hex, reason="delivery_limit", queue="default_queue", task="t", args=[str(job_id), "1"])
    with database.session() as session:
        dead_letters.receive(session, letter)
    assert looked(database).dead_letters == 1
    change(database, update(DeadLetter).values(redriven_at=from_now()))
    assert looked(database).dead_letters == 0


def timeline_of(database: Database, job_id: object) -> str:
    with database.session(read_only=True) as session:
        return "\n".join(timeline.describe(session, job_id))  # type: ignore[arg-type]


def test_the_story_of_a_job_that_waits(database: Database) -> None:
    job_id = accept(database, ML_TREE)
    text = timeline_of(database, job_id)
    assert f"Job {job_id} is pending." in text
    assert "'photo.jpg': jpeg, 640x480" in text
    assert "Waiting for a worker of default_queue: 0 resize; last sent" in text
    assert "Waiting for a worker of ml_inference_queue" not in text, "it needs the other one first"
    run_task(database, job_id, "0")
    assert "Waiting for a worker of ml_inference_queue: 0.0 denoise" in timeline_of(database, job_id)


def test_the_story_of_attempts_retries_and_their_errors(database: Database) -> None:
    job_id = accept(database)
    messages(database)
    held = claimed(database, job_id, "1", "worker-a")
    assert "1 convert_jpeg is held by worker-a, whose lease ends" in timeline_of(database, job_id)
    fail(database, held, StoreUnavailable())
    text = timeline_of(database, job_id)
    assert "1 convert_jpeg: attempt 1 started by worker-a" in text
    assert "attempt 1 failed, storage_unavailable: The object storage is unavailable at the moment." in text
    assert "In the outbox: pixtools.start_job since" in text
    fail(database, claimed(database, job_id, "1"), CorruptImage())
    assert "1 convert_jpeg on default_queue failed: corrupt_image:" in timeline_of(database, job_id)


def test_the_story_of_a_job_that_has_ended(database: Database) -> None:
    job_id = accept(database, webhook_url="http://host/hook")
    change(database, update(Job).values(context={"request_id": "r-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}))
    for task in ("0", "0.0", "0.1", "1"):
        run_task(database, job_id, task)
    text = timeline_of(database, job_id)
    assert f"In the logs: request_id r-1, trace_id {'a' * 32}." in text
    assert "ended: completed" in text
    assert "job.completed written down as msg_" in text
    assert "0.0 convert_webp on default_queue succeeded, result resize.convert_webp (1 bytes)" in text
    assert "Waiting" not in text
    moments = [line for line in text.splitlines() if line.startswith("  ")]
    offsets = [float(line.split()[0]) for line in moments]
    assert offsets == sorted(offsets)
    assert job_of(database, job_id).finished_at is not None


def test_there_is_no_story_of_no_job(database: Database) -> None:
    with pytest.raises(JobNotFound):
        timeline_of(database, uuid4())
