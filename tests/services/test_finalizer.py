"""The end of a job: in the transaction of its last step, once."""

from uuid import UUID

from sqlalchemy import select

from app.database import Database
from app.errors import CorruptImage
from app.models import (
    Event,
    JobStatus,
    WebhookDelivery,
)
from app.services import steps
from app.services.finalizer import finalize
from app.services.outbox import DELIVER_WEBHOOK
from tests.support.executing import events_of
from tests.support.work import (
    OUTCOME,
    accept,
    claimed,
    crash_after,
    fail,
    in_parallel,
    job_of,
    messages,
    run_task,
    states,
    succeed,
)


def test_the_job_ends_in_the_transaction_of_its_last_step(database: Database) -> None:
    job_id = accept(database, webhook_url="http://receiver.test/")
    for task in ("0", "0.1", "1"):
        run_task(database, job_id, task)
        assert job_of(database, job_id).status == JobStatus.PROCESSING
    run_task(database, job_id, "0.0")

    job = job_of(database, job_id)
    assert (job.status, job.error) == (JobStatus.COMPLETED, None)
    assert job.finished_at is not None
    with database.session(read_only=True) as session:
        (delivery,) = session.scalars(select(WebhookDelivery)).all()
        event = session.get_one(Event, delivery.event_id)
    assert (event.type, event.job_id) == ("job.completed", job_id)
    assert [step["status"] for step in event.data["steps"]] == ["succeeded"] * 4
    assert [result["step"] for result in event.data["results"]] == ["0.0", "0.1", "1"]
    assert messages(database) == [(DELIVER_WEBHOOK, [delivery.id], 0)], "no other message is needed"


def test_of_last_steps_that_end_together_one_ends_the_job(database: Database) -> None:
    job_id = accept(database, ["convert_webp", "convert_png", "convert_jpeg", "convert_avif"])
    held = [claimed(database, job_id, str(n)) for n in range(4)]
    calls = [lambda one=one: (fail if one.task.id == "2" else succeed)(database, one) for one in held]
    assert in_parallel(calls) == [True] * 4
    assert events_of(database, job_id) == ["job.completed_with_errors"]


def finalized(database: Database, job_id: UUID) -> bool:
    with database.session() as session:
        return finalize(session, job_id)


def test_the_body_of_a_chord_finds_the_job_ended(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    assert not finalized(database, job_id)
    run_task(database, job_id, "0")
    assert in_parallel([lambda: finalized(database, job_id)] * 4) == [False] * 4
    assert events_of(database, job_id) == ["job.completed"]


def test_some_failures_are_completed_with_errors(database: Database) -> None:
    job_id = accept(database)
    assert fail(database, claimed(database, job_id, "0"))
    run_task(database, job_id, "1")
    job = job_of(database, job_id)
    assert job.status == JobStatus.COMPLETED_WITH_ERRORS
    assert job.error == CorruptImage().as_record()


def test_nothing_but_failures_is_failed_and_the_first_one_in_the_tree_is_the_jobs_error(database: Database) -> None:
    job_id = accept(database)
    assert fail(database, claimed(database, job_id, "1"), steps.PoisonInput())
    assert fail(database, claimed(database, job_id, "0"))
    job = job_of(database, job_id)
    assert job.status == JobStatus.FAILED
    assert job.error == CorruptImage().as_record()


def test_success_without_any_result_below_it_is_failed(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 5, "then": ["convert_webp", "convert_png"]}])
    run_task(database, job_id, "0")
    for task in ("0.0", "0.1"):
        assert fail(database, claimed(database, job_id, task))
    assert job_of(database, job_id).status == JobStatus.FAILED


def test_an_end_is_undone_with_its_transaction(database: Database) -> None:
    job_id = accept(database, ["convert_webp"], webhook_url="http://receiver.test/")
    held = claimed(database, job_id, "0")
    crash_after(database, lambda session: steps.succeed(session, held, {"0": [OUTCOME]}))
    assert job_of(database, job_id).status == JobStatus.PROCESSING
    assert (states(database, job_id), messages(database)) == ({"0": "running"}, [])
    assert succeed(database, held)
    assert events_of(database, job_id) == ["job.completed"]
