"""A small job never waits behind a giant one, in both modes: by the order in which things end, not by the clock."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.database import Database
from app.models import DueTask, Job
from app.tasks import spare
from tests.conftest import SETTINGS, in_one_mode, make_photo
from tests.support.deployment import ApiClient, Deployment
from tests.support.preloaded import run
from tests.support.processes import LONG, frozen, held, pixel_processes

PATIENCE = 90.0  # seconds
GIANT = [{"op": "convert_avif", "effort": 9, "as": f"file{number}"} for number in range(8)]
SLOW: list[Any] = [{"op": "convert_avif", "effort": 8}]  # not small, even with a photograph of 120x90


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def by_status(api: ApiClient, job_id: str) -> list[str]:
    return [step["status"] for step in api.job(job_id)["steps"]]


@contextmanager
def cancelled_after(api: ApiClient, *job_ids: str) -> Iterator[None]:
    """The next test needs the processes."""
    try:
        yield
    finally:
        for job_id in job_ids:
            api.http.post(f"/jobs/{job_id}/cancel")


def database_of(deployment: Deployment) -> Database:
    folder = deployment.environment["PIXTOOLS_DATA_DIR"]
    return Database(deployment.environment.get("PIXTOOLS_DATABASE_URL", f"sqlite:///{folder}/pixtools.db"))


def give(database: Database, jobs: list[str], tenant: str) -> None:
    ids = [UUID(job_id) for job_id in jobs]
    with database.session() as session:
        session.execute(update(Job).where(Job.id.in_(ids)).values(tenant=tenant))
        session.execute(update(DueTask).where(DueTask.job_id.in_(ids)).values(tenant=tenant))


def test_small_jobs_do_not_wait_for_a_giant_that_holds_every_process(api: ApiClient) -> None:
    giant = api.accepted(make_photo(1600, 1200), GIANT)["id"]
    with cancelled_after(api, giant):
        until(lambda: by_status(api, giant).count("running") >= 2)
        for tree in (["convert_png"], ["flip", "convert_webp"]):
            assert api.run(make_photo(8, 8), tree)["status"] == "completed"
        assert by_status(api, giant).count("pending") >= 4
        assert "succeeded" not in by_status(api, giant)[4:], "tasks of a job keep their order"


@contextmanager
def all_held(deployment: Deployment, api: ApiClient) -> Iterator[None]:
    """Let no work that is not small begin until the end of the block."""
    each = int(SETTINGS["PIXTOOLS_WORKER_CONCURRENCY"])
    ahead = api.accepted(make_photo(1000, 750), [{**LONG, "as": f"file{number}"} for number in range(each)])["id"]
    with cancelled_after(api, ahead), held(deployment, api, ahead):
        yield


def begun_later(api: ApiClient, ended: dict[str, Any], job_ids: list[str]) -> int:
    """How many of the jobs had not begun when another one had ended."""
    begun = [api.job(job_id)["steps"][0]["started_at"] for job_id in job_ids]
    return sum(at is None or moment(at) > moment(ended["finished_at"]) for at in begun)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@in_one_mode()
def test_a_newcomer_does_not_wait_for_another_tenant_nor_the_highest_priority_for_a_low_one(
    deployment: Deployment, api: ApiClient
) -> None:
    photo = make_photo(120, 90)
    with closing(database_of(deployment)) as database:
        with all_held(deployment, api):
            others = [api.accepted(photo, SLOW)["id"] for _ in range(16)]
            give(database, others, "another")  # there are no keys that would separate them
            low = [api.accepted(photo, SLOW, priority="4")["id"] for _ in range(8)]
            newcomer = api.accepted(photo, SLOW, priority="9")
        assert newcomer["priority"] == 9
        with cancelled_after(api, *others, *low):
            ended = api.ended(newcomer["id"])
            with frozen(pixel_processes(deployment)):  # the others need not do their work
                assert ended["status"] == "completed"
                give(database, others, "default")  # which may see them
                assert begun_later(api, ended, others) >= 4
                assert begun_later(api, ended, low) >= 4


@pytest.mark.parametrize("value", ["10", "-1", "x", "5.0", "\N{SUPERSCRIPT TWO}"])
def test_a_priority_is_one_digit(api: ApiClient, photo: bytes, value: str) -> None:
    answer = api.process(photo, ["flip"], priority=value)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid_parameter", "#/priority")


def test_the_usual_priority_is_five(api: ApiClient, photo: bytes) -> None:
    assert [api.run(photo, ["flip"], **given)["priority"] for given in ({}, {"priority": ""})] == [5, 5]


def test_a_spare_process_whose_worker_is_killed_while_it_starts_ends_too(tmp_path: Path) -> None:
    settings = {spare.SPARE_OF: "1", "PIXTOOLS_DATA_DIR": str(tmp_path)}  # not this process, which starts it
    python, dash_m, *command = spare._command("worker@here")
    assert (python, dash_m) == (sys.executable, "-m")
    ended = run(command, {**os.environ, **settings})
    assert ended.returncode == 1
    assert "The worker of this spare process has ended." in ended.stderr
