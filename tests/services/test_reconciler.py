"""Repairs: what a crash or a lost message left behind is found, and what is well is left alone."""

import threading
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import select, update

from app.database import Database, from_now
from app.models import (
    DueTask,
    Job,
    Step,
    StepStatus,
)
from app.services import jobs, outbox, steps
from app.services.dispatch import canvas_for, waiting_in
from app.services.finalizer import lock_open_job
from app.services.outbox import START_JOB, Message
from app.services.upkeep import reconciler
from app.services.upkeep.reconciler import Repairs
from app.tasks.celery_app import celery_app
from tests.support.executing import events_of
from tests.support.proxy import TcpProxy
from tests.support.servers import RabbitMQ
from tests.support.waiting import until
from tests.support.work import (
    LONG_AGO,
    ON_POSTGRESQL,
    OUTCOME,
    OVER,
    PATIENCE,
    accept,
    change,
    claimed,
    messages,
    run_task,
    states,
    succeed,
)

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
        assert steps.succeed(session, held, {"0": [OUTCOME]})
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


def test_a_job_may_wait_in_the_small_queue_while_the_other_one_is_empty(database: Database) -> None:
    """Messages that start jobs go there as well; another copy would make it longer."""
    job_id = accept(database)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO), created_at=from_now(-LONG_AGO)))

    def swept(small: int) -> int:
        waiting = {"small_queue": small}
        with database.session() as session:
            return reconciler.sweep(session, redispatch_seconds=900, waiting=lambda queue: waiting.get(queue, 0)).silent

    assert swept(reconciler.FEW + 1) == 0
    assert swept(reconciler.FEW) == 1
    assert messages(database) == [(START_JOB, [str(job_id)], 0)]


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
        lengths = {"default_queue": 0, "ml_inference_queue": 3, "webhook_queue": 0, "small_queue": 0, "fetch_queue": 0}
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
    url = rabbitmq.new_vhost()
    app = Celery("lengths", broker=url)
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
    with TcpProxy("127.0.0.1", rabbitmq.port) as away:
        away.cut()
        waiting = waiting_in(Celery("lengths", broker=url.replace(f":{rabbitmq.port}/", f":{away.port}/")))
        assert waiting("default_queue") is None


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
    lengths = {"default_queue": 0, "ml_inference_queue": 5, "webhook_queue": 0, "small_queue": 0, "fetch_queue": 0}

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
    lengths = {"default_queue": 0, "ml_inference_queue": 6, "webhook_queue": 0, "small_queue": 0, "fetch_queue": 0}
    for found in (2, 1, 0):
        with database.session() as session:
            repairs = reconciler.sweep(session, redispatch_seconds=900, waiting=lengths.__getitem__)
        assert repairs == Repairs(silent=found)
    assert sorted(args[0] for _, args, _ in messages(database)) == sorted(map(str, lost))


def test_a_job_whose_message_the_broker_does_not_take_is_not_sent_again(database: Database) -> None:
    """A broker in alarm reports empty queues, and takes nothing."""
    job_id = accept(database)
    outbox.keep(database, [Message(task=START_JOB, args=[str(job_id)], queue="default_queue")])
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert sweep(database) == Repairs()
    assert len(messages(database)) == 1
    assert sweep(database) == Repairs(silent=1)
