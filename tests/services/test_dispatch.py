"""What is left of a job, as Celery's Canvas."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from celery import group
from sqlalchemy import update

from app.database import Database, from_now
from app.models import (
    Job,
)
from app.services import jobs
from app.services.dispatch import canvas_for
from app.services.outbox import FINALIZE
from app.tasks.celery_app import celery_app
from tests.support.work import (
    LONG_AGO,
    accept,
    change,
    job_of,
    run_task,
)


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
