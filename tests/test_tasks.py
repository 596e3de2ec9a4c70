"""What tasks do to the database, on both kinds of it: guards, the end of jobs, the outbox and repairs."""

import asyncio
import hashlib
import importlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, group
from celery.exceptions import Reject
from PIL import Image
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from app.backoff import Backoff
from app.config import Settings
from app.database import Database, from_now
from app.errors import CorruptImage, PixelProcessDied, PixToolsError, StepTimedOut, StoreUnavailable
from app.imaging import libvips, pipeline
from app.imaging.recipe import Limits, Monitor, Rendered, Stage, Target, When
from app.models import (
    DeadLetter,
    DueTask,
    Event,
    IdempotencyKey,
    Job,
    JobStatus,
    OutboxMessage,
    Step,
    StepAttempt,
    StepStatus,
    WebhookDelivery,
)
from app.operations import OPERATIONS, Operation
from app.services import jobs, outbox, steps
from app.services.dispatch import canvas_for, waiting_in
from app.services.execution.executor import TASK_FOLDER, Executor, LeaseLost, Renderer
from app.services.execution.input_cache import InputCache
from app.services.execution.sandbox import Sandbox
from app.services.finalizer import finalize, lock_open_job
from app.services.outbox import DELIVER_WEBHOOK, FINALIZE, REPLAY_WEBHOOKS, START_JOB, Message, Relay
from app.services.steps import Claim
from app.services.storage.keys import input_key, intermediate_key, result_key
from app.services.storage.local import LocalFolder
from app.services.upkeep import reconciler
from app.services.upkeep.reconciler import Repairs
from app.tasks import runtime
from app.tasks.celery_app import celery_app
from app.tasks.runtime import undone_when_cut_off
from app.wiring import Resources
from tests.support.servers import RabbitMQ
from tests.support.work import (
    LEASE,
    LONG_AGO,
    MAX_ATTEMPTS,
    ON_POSTGRESQL,
    OUTCOME,
    OVER,
    PATIENCE,
    accept,
    change,
    claim,
    claimed,
    crash_after,
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


# -- the end of a job --------------------------------------------------------------------------------------------------


def events_of(database: Database, job_id: UUID) -> list[str]:
    with database.session(read_only=True) as session:
        return list(session.scalars(select(Event.type).where(Event.job_id == job_id)))


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
    crash_after(database, lambda session: steps.succeed(session, held, {"0": OUTCOME}))
    assert job_of(database, job_id).status == JobStatus.PROCESSING
    assert (states(database, job_id), messages(database)) == ({"0": "running"}, [])
    assert succeed(database, held)
    assert events_of(database, job_id) == ["job.completed"]


# -- dispatch ----------------------------------------------------------------------------------------------------------


def test_the_canvas_is_what_is_left_of_a_job(database: Database) -> None:
    job_id = accept(database)
    run_task(database, job_id, "0")
    run_task(database, job_id, "0.1")
    with database.session() as session:
        canvas = canvas_for(session, celery_app, job_id, None)
    assert canvas is not None
    assert [tuple(task.args) for task in canvas.tasks] == [(str(job_id), "0.0"), (str(job_id), "1")]
    assert canvas.body.task == FINALIZE


def test_a_canvas_that_nothing_counts_has_the_same_tasks_and_no_body(database: Database) -> None:
    job_id = accept(database)
    with database.session() as session:
        canvas = canvas_for(session, celery_app, job_id, None, counted=False)
    assert isinstance(canvas, group)
    assert sorted(task.task for task in _leaves(canvas)) == [
        "pixtools.convert_jpeg",
        "pixtools.convert_png",
        "pixtools.convert_webp",
        "pixtools.resize",
    ]


def _leaves(signature: Any) -> Iterator[Any]:
    tasks = getattr(signature, "tasks", None)
    if tasks is None:
        yield signature
    else:
        for task in tasks:
            yield from _leaves(task)


def test_a_dispatch_is_noted(database: Database) -> None:
    job_id = accept(database)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    with database.session() as session:
        assert canvas_for(session, celery_app, job_id, "1") is not None
    job = job_of(database, job_id)
    assert (job.dispatched_at - job.created_at).total_seconds() > -5


def test_an_ended_job_has_no_canvas(database: Database) -> None:
    job_id = accept(database)
    with database.session() as session:
        jobs.cancel(session, job_id)
    with database.session() as session:
        assert canvas_for(session, celery_app, job_id, None) is None
        assert canvas_for(session, celery_app, uuid4(), None) is None


# -- the reconciler ----------------------------------------------------------------------------------------------------


def sweep(database: Database, redispatch_seconds: float = 900, waiting: int | None = 0) -> Repairs:
    with database.session() as session:
        return reconciler.sweep(session, redispatch_seconds=redispatch_seconds, waiting=lambda _: waiting)


def test_a_sweep_leaves_jobs_alone_that_are_well(database: Database) -> None:
    accept(database)
    running = accept(database)
    claimed(database, running, "0")
    finished = accept(database, ["convert_webp"])
    run_task(database, finished, "0")
    messages(database)
    assert sweep(database) == Repairs()
    assert messages(database) == []


def test_a_sweep_sends_a_task_whose_worker_is_silent_again(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 5, "then": ["convert_webp"]}])
    silent = claimed(database, job_id, "0.0", "ann", lease=OVER)

    assert sweep(database) == Repairs(expired=1)
    assert messages(database) == [(START_JOB, [str(job_id), "0.0"], 0)]
    assert states(database, job_id) == {"0": "pending", "0.0": "pending"}
    assert sweep(database) == Repairs()

    assert not succeed(database, silent)
    assert claimed(database, job_id, "0.0", "bob").attempt == 2


def test_a_sweep_sends_a_job_once_though_it_is_silent_too(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 5, "then": ["convert_webp"]}])
    claimed(database, job_id, "0.0", "ann", lease=OVER)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs(expired=1)
    assert messages(database) == [(START_JOB, [str(job_id), "0.0"], 0)]
    assert sweep(database) == Repairs()


@ON_POSTGRESQL
def test_a_sweep_and_a_worker_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    """The worker has locked its job and locks the steps next; a sweep that began with the steps would block it."""
    job_id = accept(database, ["convert_webp"])
    held = claimed(database, job_id, "0", "ann", lease=OVER)
    swept: list[Repairs] = []
    with database.session() as session:
        assert lock_open_job(session, job_id) is not None
        sweeping = threading.Thread(target=lambda: swept.append(sweep(database)))
        sweeping.start()
        sweeping.join(2)
        assert steps.succeed(session, held, {"0": OUTCOME})
    sweeping.join(PATIENCE)
    assert swept == [Repairs()], "a job that somebody works on is looked at again by the next sweep"
    assert (states(database, job_id), messages(database)) == ({"0": "succeeded"}, [])


def test_a_job_that_an_earlier_version_left_without_an_end_is_found_and_ended(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    long_ago = from_now(-LONG_AGO)
    change(database, update(Step).values(status=StepStatus.SUCCEEDED, finished_at=long_ago))
    assert sweep(database) == Repairs()
    change(database, update(Job).values(dispatched_at=long_ago))
    assert sweep(database, waiting=1) == Repairs()
    assert sweep(database) == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(job_id)], 0)]
    with database.session() as session:
        assert canvas_for(session, celery_app, job_id, None) is None
    assert events_of(database, job_id) == ["job.completed"]


def test_a_sweep_sends_a_silent_job_again_once_in_a_while(database: Database) -> None:
    silent, recent, busy = (accept(database) for _ in range(3))
    claimed(database, busy, "0")
    change(database, update(Job).where(Job.id != recent).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(silent)], 0)]
    assert sweep(database) == Repairs()


@pytest.mark.parametrize("waiting", [1, 20_000, None])
def test_a_sweep_leaves_jobs_alone_that_stand_in_a_long_queue(database: Database, waiting: int | None) -> None:
    first, second = accept(database), accept(database)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO), created_at=from_now(-LONG_AGO)))
    claimed(database, first, "0")
    assert sweep(database, waiting=waiting) == Repairs()
    assert sweep(database, waiting=0) == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(second)], 0)]


def test_a_sweep_finds_who_was_passed_over_in_a_queue_that_is_never_empty(database: Database) -> None:
    lost, younger = (accept(database, ["convert_webp"], size=(4000, 3000)) for _ in range(2))
    change(database, update(Job).where(Job.id == lost).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database, waiting=7) == Repairs()
    claimed(database, younger, "0")
    assert sweep(database, waiting=7) == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(lost)], 0)]


def test_a_job_that_waits_for_a_network_is_not_passed_over_by_other_work(database: Database) -> None:
    waiting, younger = accept(database, ["denoise"]), accept(database, ["convert_webp"])
    change(database, update(Job).where(Job.id == waiting).values(dispatched_at=from_now(-LONG_AGO)))
    claimed(database, younger, "0")
    with database.session() as session:
        lengths = {"default_queue": 0, "ml_inference_queue": 3, "webhook_queue": 0, "small_queue": 0}
        assert reconciler.sweep(session, redispatch_seconds=900, waiting=lengths.__getitem__) == Repairs()
    assert sweep(database, waiting=0) == Repairs(silent=1)


def test_a_job_that_has_just_gone_a_step_further_is_alive(database: Database) -> None:
    job_id = accept(database)
    run_task(database, job_id, "0")
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs()
    change(database, update(Step).where(Step.id == "0").values(finished_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs(silent=1)


@pytest.mark.integration
def test_the_length_of_a_queue_is_what_nobody_has_taken(rabbitmq: RabbitMQ) -> None:
    app = Celery("lengths", broker=rabbitmq.create_vhost(f"lengths-{uuid4().hex[:8]}"))
    waiting = waiting_in(app)
    assert waiting("default_queue") == 0  # there is no such queue yet
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue("default_queue")
        assert waiting("default_queue") == 0
        for number in range(3):
            queue.put(number)
        assert until(lambda: waiting("default_queue") == 3)
        queue.get()  # without an answer: taken, and with it what the consumer has fetched ahead
        assert until(lambda: waiting("default_queue") == 0)
    rabbitmq.stop()
    try:
        assert waiting("default_queue") is None
    finally:
        rabbitmq.start()


def until(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_sweep_leaves_ended_jobs_alone(database: Database) -> None:
    job_id = accept(database)
    with database.session() as session:
        jobs.cancel(session, job_id)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs()


@ON_POSTGRESQL
def test_two_processes_do_not_sweep_at_once(database: Database) -> None:
    job_id = accept(database, ["convert_webp"])
    claimed(database, job_id, "0", lease=OVER)
    with database.session() as session:
        assert reconciler.sweep(session, redispatch_seconds=900, waiting=lambda _: 0) == Repairs(expired=1)
        assert sweep(database) == Repairs()
    assert messages(database) == [(START_JOB, [str(job_id), "0"], 0)]


def test_a_process_that_is_the_only_one_takes_up_every_open_job(database: Database) -> None:
    waiting, running, cancelled = (accept(database, ["convert_webp"]) for _ in range(3))
    abandoned = claimed(database, running, "0")
    with database.session() as session:
        jobs.cancel(session, cancelled)
    with database.session() as session:
        assert reconciler.resume_all(session) == 2
    with database.session(read_only=True) as session:
        due = session.execute(select(DueTask.job_id, DueTask.name)).all()
    assert sorted(due) == sorted((job_id, START_JOB) for job_id in (waiting, running))
    assert not succeed(database, abandoned)
    assert claimed(database, running, "0", "bob").attempt == 2


# -- the outbox --------------------------------------------------------------------------------------------------------


@dataclass
class Broker:
    """Keeps what it is sent, unless it is down."""

    down: bool = False
    sent: list[Message] = field(default_factory=list)

    def __call__(self, message: Message) -> None:
        if self.down:
            raise ConnectionError("refused")
        self.sent.append(message)


def enqueue(database: Database, *numbers: int, delay: float = 0) -> None:
    with database.session() as session:
        for number in numbers:
            outbox.enqueue(session, START_JOB, [number], delay=delay)


def outbox_rows(database: Database) -> list[OutboxMessage]:
    with database.session(read_only=True) as session:
        return list(session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))


def test_the_relay_sends_in_order_and_forgets_what_is_sent(database: Database) -> None:
    broker = Broker()
    relay = Relay(database, broker, poll_seconds=1)
    assert relay.run_once() == 0
    enqueue(database, 1, 2, 3)
    assert relay.run_once() == 3
    assert [(message.task, message.args, message.queue) for message in broker.sent] == [
        (START_JOB, [number], "default_queue") for number in (1, 2, 3)
    ]
    assert len({message.task_id for message in broker.sent}) == 3
    assert outbox_rows(database) == []
    assert relay.run_once() == 0


def test_the_relay_sends_a_batch_at_a_time(database: Database) -> None:
    broker = Broker()
    enqueue(database, *range(outbox.BATCH + 7))
    relay = Relay(database, broker, poll_seconds=1)
    assert [relay.run_once() for _ in range(3)] == [outbox.BATCH, 7, 0]
    assert [message.args for message in broker.sent] == [[number] for number in range(outbox.BATCH + 7)]


def test_a_message_waits_for_its_time(database: Database) -> None:
    enqueue(database, 1, delay=60)
    assert Relay(database, Broker(), poll_seconds=1).run_once() == 0
    assert len(outbox_rows(database)) == 1


def test_a_message_that_cannot_be_sent_is_kept_and_sent_later(database: Database) -> None:
    broker = Broker(down=True)
    relay = Relay(database, broker, poll_seconds=1)
    enqueue(database, 1)
    (created,) = outbox_rows(database)

    pauses = []
    for attempts in (1, 2, 3):
        with database.session(read_only=True) as session:
            began = session.scalars(select(from_now())).one()
        assert relay.run_once() == 1
        assert relay.run_once() == 0
        (row,) = outbox_rows(database)
        assert row.attempts == attempts
        pauses.append((row.available_at - began).total_seconds())
        change(database, update(OutboxMessage).values(available_at=from_now()))
    assert all(least <= pause < least + 2 for pause, least in zip(pauses, (2, 4, 8), strict=True))

    broker.down = False
    assert relay.run_once() == 1
    assert [message.id for message in broker.sent] == [created.id]
    assert outbox_rows(database) == []


def test_one_message_finds_out_for_its_batch_that_the_broker_is_away(database: Database) -> None:
    broker = Broker(down=True)
    enqueue(database, 1, 2, 3)
    assert Relay(database, broker, poll_seconds=1).run_once() == 3
    assert [row.attempts for row in outbox_rows(database)] == [1, 0, 0]
    assert Relay(database, broker, poll_seconds=1).run_once() == 0

    broker.down = False
    change(database, update(OutboxMessage).values(available_at=from_now()))
    assert Relay(database, broker, poll_seconds=1).run_once() == 3
    assert sorted(message.args[0] for message in broker.sent) == [1, 2, 3]


def test_a_relay_lives_through_what_nobody_thought_of(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=0.1)
    run_once = relay.run_once
    failures = iter([MemoryError(), ValueError()])

    def surprising() -> int:
        for failure in failures:
            raise failure
        return run_once()

    monkeypatch.setattr(relay, "run_once", surprising)
    relay.start()
    try:
        enqueue(database, 1)
        assert sent.wait(PATIENCE)
    finally:
        relay.stop()


def test_every_copy_of_a_message_has_the_same_task_id(database: Database) -> None:
    enqueue(database, 1)
    copies: list[Message] = []

    def unconfirmed(message: Message) -> None:
        copies.append(message)
        raise ConnectionError("the broker has it, or not")

    for _ in range(2):
        assert Relay(database, unconfirmed, poll_seconds=1).run_once() == 1
        change(database, update(OutboxMessage).values(available_at=from_now()))
    assert copies[0].task_id == copies[1].task_id
    assert UUID(copies[0].task_id)


def test_a_message_of_a_relay_that_died_is_sent_by_another(database: Database) -> None:
    class Killed(BaseException):
        pass

    def die(_message: Message) -> None:
        raise Killed

    enqueue(database, 1)
    with pytest.raises(Killed):
        Relay(database, die, poll_seconds=1).run_once()
    broker = Broker()
    other = Relay(database, broker, poll_seconds=1)
    assert other.run_once() == 0
    change(database, update(OutboxMessage).values(available_at=from_now()))
    assert other.run_once() == 1
    assert [message.args for message in broker.sent] == [[1]]


def test_two_relays_do_not_send_the_same_message_at_the_same_time(database: Database) -> None:
    enqueue(database, *range(120))
    brokers = [Broker(), Broker()]

    def drain(broker: Broker) -> None:
        relay = Relay(database, broker, poll_seconds=1)
        while relay.run_once():
            pass

    in_parallel([lambda broker=broker: drain(broker) for broker in brokers])
    drain(brokers[0])
    sent = [message.args[0] for broker in brokers for message in broker.sent]
    assert sorted(sent) == list(range(120))
    assert outbox_rows(database) == []


def test_a_relay_leaves_alone_what_another_one_is_sending(database: Database) -> None:
    enqueue(database, 1)
    seen: list[int] = []

    def send(_message: Message) -> None:
        seen.append(Relay(database, Broker(), poll_seconds=1).run_once())

    assert Relay(database, send, poll_seconds=1).run_once() == 1
    assert seen == [0]


def test_a_commit_wakes_the_relay_and_a_rollback_does_not(database: Database) -> None:
    crash_after(database, lambda session: outbox.enqueue(session, START_JOB, [1]))
    assert not database.hooks.wake.is_set()
    assert outbox_rows(database) == []
    enqueue(database, 2)
    assert database.hooks.wake.is_set()


def test_a_running_relay_sends_at_once_what_is_committed(database: Database) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=3)
    relay.start()
    try:
        await_relay(database)
        enqueue(database, 1)
        assert sent.wait(1.5)
    finally:
        relay.stop()
    assert outbox_rows(database) == []


@ON_POSTGRESQL
def test_a_running_relay_sends_at_once_what_another_process_commits(database: Database) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=10)
    other = Database(database.url().render_as_string(hide_password=False))
    relay.start()
    try:
        await_relay(database)
        enqueue(other, 1)
        assert sent.wait(5)
    finally:
        relay.stop()
        other.close()


def send_after_commit(database: Database, *numbers: int) -> None:
    with database.session() as session:
        for number in numbers:
            outbox.send_after_commit(session, START_JOB, [number])


def test_what_another_row_stands_for_is_sent_without_a_row_of_the_outbox(database: Database) -> None:
    broker = Broker()
    relay = Relay(database, broker, poll_seconds=60)
    relay.start()
    try:
        crash_after(database, lambda session: outbox.send_after_commit(session, START_JOB, [0]))
        send_after_commit(database, 1)
        assert until(lambda: [message.args for message in broker.sent] == [[1]])
        assert outbox_rows(database) == []
    finally:
        relay.stop()


def test_what_cannot_be_sent_at_once_is_written_down_and_sent_later(database: Database) -> None:
    broker = Broker(down=True)
    relay = Relay(database, broker, poll_seconds=60)
    relay.start()
    try:
        send_after_commit(database, 1, 2)
        assert until(lambda: len(outbox_rows(database)) == 2)
    finally:
        relay.stop()
    assert all(row.available_at > row.created_at for row in outbox_rows(database)), "the broker gets time to come back"
    change(database, update(OutboxMessage).values(available_at=from_now()))
    heir = Broker()
    assert Relay(database, heir, poll_seconds=1).run_once() == 2
    assert [message.args for message in heir.sent] == [[1], [2]]


def test_without_a_relay_every_message_is_a_row(database: Database) -> None:
    send_after_commit(database, 1)
    assert messages(database) == [(START_JOB, [1], 0)]


def test_a_worker_sends_what_it_has_committed_and_writes_down_what_it_cannot_send(database: Database) -> None:
    broker = Broker()
    database.hooks.take_over = outbox.DirectSender(database, broker)
    send_after_commit(database, 1)
    assert [message.args for message in broker.sent] == [[1]]
    broker.down = True
    send_after_commit(database, 2)
    database.hooks.take_over = None
    assert messages(database) == [(START_JOB, [2], 2)]


def test_a_worker_waits_once_for_a_broker_that_takes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send takes ten seconds then, and one transaction may have many messages."""
    monkeypatch.setattr(outbox, "RETRIES", Backoff(first=0.3, longest=0.3))
    broker, tried = Broker(down=True), []

    def send(message: Message) -> None:
        tried.append(message.args)
        broker(message)

    database.hooks.take_over = outbox.DirectSender(database, send)
    try:
        send_after_commit(database, 1, 2, 3)
        assert tried == [[1]]
        time.sleep(0.4)
        broker.down = False
        send_after_commit(database, 4)
    finally:
        database.hooks.take_over = None
    assert tried == [[1], [4]]
    assert [args for _, args, _ in messages(database)] == [[1], [2], [3]]


def test_what_comes_while_the_broker_takes_nothing_is_written_down_after_one_failed_send(database: Database) -> None:
    release, tried = threading.Event(), []

    def send(message: Message) -> None:
        tried.append(message.args)
        release.wait(PATIENCE)
        raise ConnectionError("blocked")

    relay = Relay(database, send, poll_seconds=60)
    relay.start()
    try:
        send_after_commit(database, 0)
        assert until(lambda: tried == [[0]])
        send_after_commit(database, *range(1, 3 * outbox.BATCH))
        release.set()
        assert until(lambda: len(outbox_rows(database)) == 3 * outbox.BATCH)
        assert tried == [[0]]
    finally:
        relay.stop()
    assert [row.args for row in outbox_rows(database)] == [[number] for number in range(3 * outbox.BATCH)]


def test_a_job_whose_message_was_never_sent_is_found_soon(database: Database) -> None:
    """The process was killed between its commit and the message."""
    unsent, begun = accept(database), accept(database)
    run_task(database, begun, "0")
    assert sweep(database) == Repairs()
    soon = from_now(-outbox.UNSENT_SECONDS - 1)
    change(database, update(Job).values(dispatched_at=soon))
    change(database, update(Step).where(Step.finished_at.is_not(None)).values(finished_at=soon))
    assert sweep(database, waiting=1) == Repairs(), "it may stand in the queue"
    assert sweep(database) == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(unsent)], 0)]
    assert sweep(database) == Repairs()


def test_a_repeated_job_whose_message_was_never_sent_is_found_soon(database: Database) -> None:
    """What it has of its run before ended a moment ago; nothing has begun since."""
    job_id = accept(database)
    run_task(database, job_id, "0")
    with database.session() as session:
        jobs.cancel(session, job_id)
    with database.session() as session:
        jobs.retry(session, job_id, kept_seconds=60)
    messages(database)
    assert sweep(database) == Repairs()
    change(database, update(Job).values(dispatched_at=from_now(-outbox.UNSENT_SECONDS - 1)))
    assert sweep(database) == Repairs(silent=1)


def test_a_job_that_was_never_started_does_not_wait_for_the_queue_of_its_tasks(database: Database) -> None:
    """Its message is in the default queue, those of its tasks come after it."""
    job_id = accept(database, ["denoise", "convert_webp"])
    soon = from_now(-outbox.UNSENT_SECONDS - 1)
    change(database, update(Job).values(created_at=soon))
    change(database, update(Job).values(dispatched_at=Job.created_at))
    lengths = {"default_queue": 0, "ml_inference_queue": 5, "webhook_queue": 0, "small_queue": 0}

    def swept() -> Repairs:
        with database.session() as session:
            return reconciler.sweep(session, redispatch_seconds=900, waiting=lengths.__getitem__)

    assert swept() == Repairs(silent=1)
    assert messages(database) == [(START_JOB, [str(job_id)], 0)]
    with database.session() as session:
        assert canvas_for(session, celery_app, job_id, None) is not None
    change(database, update(Job).values(dispatched_at=soon, created_at=from_now(-LONG_AGO)))
    assert swept() == Repairs(), "it was started, and one of its tasks may stand in the long queue"


def test_a_lost_job_is_found_behind_many_that_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long queue for the network holds more jobs than one sweep repairs, all of them older."""
    monkeypatch.setattr(reconciler, "BATCH", 2)
    network_first: list[Any] = [{"op": "denoise", "then": ["convert_webp", "convert_png"]}]
    waiting = [accept(database, tree) for tree in 3 * (["denoise"], network_first)]
    lost = [accept(database, ["convert_webp"]) for _ in range(3)]
    change(database, update(Job).values(dispatched_at=from_now(-60)))
    change(database, update(Job).where(Job.id.in_(waiting)).values(dispatched_at=from_now(-90)))
    lengths = {"default_queue": 0, "ml_inference_queue": 6, "webhook_queue": 0, "small_queue": 0}
    for found in (2, 1, 0):
        with database.session() as session:
            repairs = reconciler.sweep(session, redispatch_seconds=900, waiting=lengths.__getitem__)
        assert repairs == Repairs(silent=found)
    assert sorted(args[0] for _, args, _ in messages(database)) == sorted(map(str, lost))


def test_a_job_whose_message_the_broker_does_not_take_is_not_sent_again(database: Database) -> None:
    """A broker in alarm tells that its queues are empty, and takes nothing."""
    job_id = accept(database)
    outbox.keep(database, [Message(task=START_JOB, args=[str(job_id)], queue="default_queue")])
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs()
    assert len(messages(database)) == 1
    assert sweep(database) == Repairs(silent=1)


def test_a_relay_that_stops_sends_what_was_committed_before(database: Database) -> None:
    broker = Broker()
    relay = Relay(database, broker, poll_seconds=60)
    relay.start()
    send_after_commit(database, *range(3 * outbox.BATCH))
    relay.stop()
    assert [message.args for message in broker.sent] == [[number] for number in range(3 * outbox.BATCH)]
    assert database.hooks.take_over is None


def test_a_running_relay_finds_by_itself_what_became_due(database: Database) -> None:
    sent = threading.Event()
    relay = Relay(database, lambda _: sent.set(), poll_seconds=0.2)
    enqueue(database, 1, delay=0.5)
    relay.start()
    try:
        assert sent.wait(PATIENCE)
    finally:
        relay.stop()


def await_relay(database: Database) -> None:
    """Wait until a running relay has looked once, and listens."""
    listening = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
    )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.3)
        if database.is_sqlite:
            return
        with database.session(read_only=True) as session:
            if session.scalar(listening):
                return
    pytest.fail("the relay does not listen")


# -- the executor ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _libvips() -> None:
    libvips.configure(1)


@pytest.fixture
def storage(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "objects")


@pytest.fixture
def executor(database: Database, storage: LocalFolder, tmp_path: Path) -> Executor:
    return executor_with(pipeline.render, database, storage, tmp_path)


def executor_with(renderer: Renderer, database: Database, storage: LocalFolder, folder: Path) -> Executor:
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    return Executor(
        database=database,
        storage=storage,
        renderer_of=lambda _queue: renderer,
        limits=Limits(pixels=4_000_000, side=4000),
        spool=spool,
        inputs=InputCache(spool / "inputs", 10_000_000),
        lease_seconds=LEASE,
        max_attempts=MAX_ATTEMPTS,
    )


def upload(storage: LocalFolder, job_id: UUID, content: bytes, folder: Path) -> None:
    path = folder / "upload"
    path.write_bytes(content)

    async def store() -> None:
        with path.open("rb") as file:
            await storage.upload_raw(input_key(job_id), file)

    asyncio.run(store())


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


def attempts_of(database: Database, job_id: UUID) -> dict[str, list[tuple[int, str | None]]]:
    """Number and outcome of every attempt, by the task."""
    with database.session(read_only=True) as session:
        found: dict[str, list[tuple[int, str | None]]] = {}
        for attempt in session.scalars(select(StepAttempt).where(StepAttempt.job_id == job_id)):
            found.setdefault(attempt.task, []).append((attempt.number, attempt.outcome))
        return found


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
    first, last, *along = job.steps
    assert {step.status for step in job.steps} == {"succeeded"}
    assert 0 < last.cpu_seconds < 60
    assert last.pixels == job.input_width * job.input_height
    assert (last.bytes_in, last.bytes_out) == (len(photo), sum(result.bytes for result in job.results))
    assert {step.cpu_seconds for step in (first, *along)} == {None}


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


@dataclass
class Meanwhile:
    """Renders, and lets something happen while it does."""

    happening: Callable[[], object]

    def __call__(
        self, source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, *, monitor: Monitor
    ) -> list[Rendered | None]:
        self.happening()
        return pipeline.render(source, stages, targets, limits, monitor)


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


@dataclass
class Failing:
    """A service that finds the database away a few times."""

    service: Callable[..., Any]
    times: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.times:
            self.times -= 1
            raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))
        return self.service(*args, **kwargs)


def test_whoever_has_to_stop_does_not_wait_for_the_database(database: Database) -> None:
    always = Failing(lambda _: None, 1000)
    with pytest.raises(OperationalError):
        database.retry(always, lambda: always.times < 998)
    assert always.times == 997


def test_a_task_without_the_database_gives_its_message_back() -> None:
    with pytest.raises(Reject) as rejected, undone_when_cut_off():
        Failing(print, 1)()
    assert rejected.value.requeue


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


def test_the_lease_is_kept_as_long_as_the_work_takes(
    database: Database, storage: LocalFolder, tmp_path: Path, photo: bytes
) -> None:
    job_id = accept(database, ["convert_webp"], content=photo)
    upload(storage, job_id, photo, tmp_path)
    others: list[Claim | None] = []

    def work() -> None:
        time.sleep(1.6)
        others.append(claim(database, job_id, "0", "bob"))

    executor = replace(executor_with(Meanwhile(work), database, storage, tmp_path), lease_seconds=0.9)
    executor.run(job_id, "0", "ann")
    assert others == [None]
    assert states(database, job_id) == {"0": "succeeded"}


# -- how it grows ------------------------------------------------------------------------------------------------------


@ON_POSTGRESQL
@pytest.mark.parametrize(
    "column", [Job.expires_at, IdempotencyKey.expires_at, DeadLetter.created_at, OutboxMessage.available_at]
)
def test_what_is_due_is_found_by_an_index_however_much_is_not(database: Database, column: Any) -> None:
    due = select(column).where(column < from_now()).compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.session() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {due}".replace(":", "\\:"))))
    assert "Index Cond" in plan, plan


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
