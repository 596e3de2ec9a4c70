"""What tasks do to the steps of a job, on both kinds of database: claims, failures and attempts."""

import importlib
import multiprocessing
from pathlib import Path
from uuid import UUID

import pytest
from celery.exceptions import Reject
from sqlalchemy import select, update

from app.config import Settings
from app.database import Database, from_now
from app.errors import CorruptImage, PixelProcessDied, StoreUnavailable
from app.models import (
    Job,
    JobStatus,
    Step,
    StepAttempt,
    StepStatus,
)
from app.operations import OPERATIONS, Operation
from app.services import jobs, steps
from app.services.finalizer import finalize
from app.services.outbox import DELIVER_WEBHOOK, FINALIZE, REPLAY_WEBHOOKS, START_JOB
from app.tasks import drain, runtime
from app.tasks.celery_app import celery_app
from app.tasks.runtime import undone_when_cut_off
from app.wiring import Resources
from tests.support.executing import Failing
from tests.support.work import (
    LEASE,
    MAX_ATTEMPTS,
    OVER,
    accept,
    change,
    claim,
    claimed,
    fail,
    in_parallel,
    job_of,
    messages,
    run_task,
    states,
    step_of,
    succeed,
)

# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_starts_an_attempt(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    held = claimed(database, job_id, "0", "ann")

    assert (held.attempt, held.owner, held.task.id) == (1, "ann", "0")
    step = step_of(database, job_id, "0")
    assert (step.status, step.attempts, step.lease_owner) == (StepStatus.RUNNING, 1, "ann")
    assert step.started_at is not None
    assert step.lease_until is not None
    assert 59 < (step.lease_until - step.started_at).total_seconds() < 61
    assert job_of(database, job_id).status == JobStatus.PROCESSING


def test_all_steps_of_a_task_start_and_succeed_together(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 5, "then": ["convert_webp"]}])
    held = claimed(database, job_id, "0.0")
    assert states(database, job_id) == {"0": "running", "0.0": "running"}
    assert succeed(database, held)
    assert states(database, job_id) == {"0": "succeeded", "0.0": "succeeded"}


def test_a_task_that_another_worker_holds_is_left_alone(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    claimed(database, job_id, "0", "ann")
    assert claim(database, job_id, "0", "bob") is None
    assert step_of(database, job_id, "0").lease_owner == "ann"


def test_of_many_workers_at_once_one_gets_the_task(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    database.engine.connect().close()
    calls = [lambda owner=f"worker-{n}": claim(database, job_id, "0", owner) for n in range(8)]
    assert sum(held is not None for held in in_parallel(calls)) == 1
    assert step_of(database, job_id, "0").attempts == 1


def test_a_redelivered_message_goes_on_at_once_and_fences_the_first_attempt_off(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    first = claimed(database, job_id, "0", "ann")
    second = claimed(database, job_id, "0", "ann")
    assert second.attempt == 2

    assert not succeed(database, first)
    assert not fail(database, first)
    assert not fail(database, first, StoreUnavailable())
    assert states(database, job_id) == {"0": "running"}
    assert messages(database) == []

    assert succeed(database, second)
    assert [result.key for result in job_of(database, job_id).results] == ["key-2"]


def test_a_lease_that_is_over_can_be_taken(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    first = claimed(database, job_id, "0", "ann", lease=OVER)
    second = claimed(database, job_id, "0", "bob")
    assert second.attempt == 2
    assert not succeed(database, first)
    assert succeed(database, second)


def test_a_worker_whose_lease_is_over_but_untaken_may_still_succeed(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    assert succeed(database, claimed(database, job_id, "0", lease=OVER))


def test_a_renewed_lease_holds_and_a_lost_one_cannot_be_renewed(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    first = claimed(database, job_id, "0", "ann", lease=OVER)
    with database.session() as session:
        assert steps.renew(session, first, LEASE)
    assert claim(database, job_id, "0", "bob") is None
    claimed(database, job_id, "0", "ann")
    with database.session() as session:
        assert not steps.renew(session, first, LEASE)


def test_a_task_waits_for_what_it_continues_from(database: Database) -> None:
    job_id = accept(database)
    assert claim(database, job_id, "0.0") is None
    held = claimed(database, job_id, "0")
    assert claim(database, job_id, "0.0") is None
    succeed(database, held)
    assert claim(database, job_id, "0.0") is not None


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_task_that_has_ended_is_not_repeated(database: Database, end: str) -> None:
    job_id = accept(database, ["convert_webp", "convert_png"])
    held = claimed(database, job_id, "0")
    assert (succeed if end == "succeeded" else fail)(database, held)
    assert claim(database, job_id, "0") is None
    assert states(database, job_id) == {"0": end, "1": "pending"}


def test_a_job_that_is_gone_needs_nothing(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    held = claimed(database, job_id, "0")
    with database.session() as session:
        jobs.remove(session, job_id)
    assert claim(database, job_id, "0") is None
    assert not succeed(database, held)
    assert not fail(database, held)
    with database.session() as session:
        assert not finalize(session, job_id)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failure_that_may_pass_is_repeated_later(database: Database) -> None:
    job_id = accept(database)
    assert fail(database, claimed(database, job_id, "0"), StoreUnavailable())

    step = step_of(database, job_id, "0")
    assert (step.status, step.attempts, step.lease_owner) == (StepStatus.PENDING, 1, None)
    assert step.error is not None
    assert step.error["code"] == "storage_unavailable"
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 2)]

    assert fail(database, claimed(database, job_id, "0"), StoreUnavailable())
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 4)]

    held = claimed(database, job_id, "0")
    assert held.attempt == 3
    assert step_of(database, job_id, "0").error is None


def test_the_last_attempt_ends_the_branch_though_the_failure_may_pass(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    for _ in range(MAX_ATTEMPTS):
        assert fail(database, claimed(database, job_id, "0"), StoreUnavailable())
    step = step_of(database, job_id, "0")
    assert (step.status, step.attempts) == (StepStatus.FAILED, MAX_ATTEMPTS)
    assert job_of(database, job_id).status == JobStatus.FAILED


def test_the_pause_between_attempts_has_a_limit(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    change(database, update(Step).values(attempts=20))
    held = claim(database, job_id, "0", most=30)
    assert held is not None
    with database.session() as session:
        assert steps.fail(session, held, StoreUnavailable(), max_attempts=30)
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 60)]


def test_a_lasting_failure_ends_its_branch_only(database: Database) -> None:
    job_id = accept(database)
    assert fail(database, claimed(database, job_id, "0"))

    assert states(database, job_id) == {"0": "failed", "0.0": "skipped", "0.1": "skipped", "1": "pending"}
    assert step_of(database, job_id, "0").error == CorruptImage().as_record()
    assert messages(database) == []

    run_task(database, job_id, "1")
    assert job_of(database, job_id).status == JobStatus.COMPLETED_WITH_ERRORS


def test_a_lasting_failure_of_the_last_open_branch_ends_the_job(database: Database) -> None:
    job_id = accept(database)
    run_task(database, job_id, "1")
    assert job_of(database, job_id).status == JobStatus.PROCESSING
    assert fail(database, claimed(database, job_id, "0"))
    assert job_of(database, job_id).status == JobStatus.COMPLETED_WITH_ERRORS
    assert messages(database) == []


def test_what_kills_every_worker_is_given_up(database: Database) -> None:
    job_id = accept(database)
    run_task(database, job_id, "1")
    for _ in range(MAX_ATTEMPTS):
        claimed(database, job_id, "0", "ann", lease=OVER)
    assert claim(database, job_id, "0", "ann") is None

    step = step_of(database, job_id, "0")
    assert (step.status, step.attempts, step.lease_owner) == (StepStatus.FAILED, MAX_ATTEMPTS, None)
    assert step.error is not None
    assert step.error["code"] == "poison_input"
    assert states(database, job_id) == {"0": "failed", "0.0": "skipped", "0.1": "skipped", "1": "succeeded"}
    assert job_of(database, job_id).status == JobStatus.COMPLETED_WITH_ERRORS
    assert messages(database) == [("pixtools.resize", [str(job_id), "0"], 0)]


def test_what_ends_its_process_every_time_is_poison(database: Database) -> None:
    job_id = accept(database, ["convert_png"])
    for _ in range(MAX_ATTEMPTS):
        assert fail(database, claimed(database, job_id, "0"), PixelProcessDied())
    step = step_of(database, job_id, "0")
    assert step.status == StepStatus.FAILED
    assert step.error
    assert (step.error["code"], step.error["retryable"]) == ("poison_input", False)


def test_a_cancelled_job_takes_no_more_results(database: Database) -> None:
    job_id = accept(database, ["convert_webp", "convert_png"])
    held = claimed(database, job_id, "0")
    with database.session() as session:
        jobs.cancel(session, job_id)

    with database.session() as session:
        assert not steps.renew(session, held, LEASE)
    assert not succeed(database, held)
    assert not fail(database, held)
    assert claim(database, job_id, "1") is None
    with database.session() as session:
        assert not finalize(session, job_id)
    job = job_of(database, job_id)
    assert (job.status, job.results) == (JobStatus.CANCELLED, [])
    assert states(database, job_id) == {"0": "cancelled", "1": "cancelled"}


def test_an_attempt_from_before_a_cancel_and_retry_counts_no_more(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    late = claimed(database, job_id, "0", "ann")
    with database.session() as session:
        jobs.cancel(session, job_id)
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
    assert not succeed(database, late)
    claimed(database, job_id, "0", "bob")
    assert not succeed(database, late)
    assert states(database, job_id) == {"0": "running"}


def attempts(database: Database, job_id: UUID) -> list[tuple[str, int, str | None, str | None]]:
    with database.session(read_only=True) as session:
        rows = session.scalars(select(StepAttempt).where(StepAttempt.job_id == job_id).order_by(StepAttempt.number))
        return [(row.task, row.number, row.outcome, (row.error or {}).get("code")) for row in rows]


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


def test_the_time_to_drain() -> None:
    drain.reset()
    assert not drain.is_over()
    drain.begin(60)
    assert not drain.is_over()
    drain.begin(0)
    assert drain.is_over()
    drain.reset()


def test_a_drain_concerns_the_worker_and_the_forks_that_it_has_made() -> None:
    drain.reset()
    context = multiprocessing.get_context("fork")
    began, seen, answers = context.Event(), context.Event(), context.SimpleQueue()

    def wait() -> None:
        began.wait(30)
        answers.put(drain.is_over())

    def another_worker() -> None:
        drain.reset()
        drain.begin(0)
        seen.set()

    child, other = context.Process(target=wait), context.Process(target=another_worker)
    child.start()
    other.start()
    assert seen.wait(30)
    assert not drain.is_over()
    drain.begin(0)
    began.set()
    assert answers.get() is True
    child.join()
    other.join()
    drain.reset()


# -- the executor ------------------------------------------------------------------------------------------------------


def test_a_task_without_the_database_gives_its_message_back() -> None:
    with pytest.raises(Reject) as rejected, undone_when_cut_off():
        Failing(print, 1)()
    assert rejected.value.requeue


# -- the registry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_has_its_task(operation: Operation) -> None:
    for module in ("app.tasks.image_ops", "app.tasks.ml_ops"):
        importlib.import_module(module)
    assert celery_app.tasks[operation.task].name == operation.task


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_handler_can_be_imported(operation: Operation) -> None:
    module, _, function = operation.handler.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", [START_JOB, FINALIZE, DELIVER_WEBHOOK, REPLAY_WEBHOOKS])
def test_every_message_of_the_outbox_has_its_task(name: str) -> None:
    for module in ("app.tasks.start", "app.tasks.finalize", "app.tasks.webhooks"):
        importlib.import_module(module)
    assert name in celery_app.tasks


def test_beat_may_ask_for_repairs_and_removals(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("app.tasks.maintenance")
    scheduled = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert scheduled == {"pixtools.reconcile", "pixtools.remove_expired"}

    job_id = accept(database)
    claimed(database, job_id, "0", lease=OVER)
    old = accept(database)
    with database.session() as session:
        jobs.cancel(session, old)
    change(database, update(Job).where(Job.id == old).values(expires_at=from_now(-1)))
    url = database.url().render_as_string(hide_password=False)
    own = Resources(Settings(database_url=url, data_dir=tmp_path))
    monkeypatch.setattr(runtime, "_shared", [own])
    for name in scheduled:
        celery_app.tasks[name]()
    own.database.close()
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 0)]
    with database.session(read_only=True) as session:
        assert list(session.scalars(select(Job.id))) == [job_id]
