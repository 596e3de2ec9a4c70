"""Faults that are known and not mended yet: each test fails, and breaks the build when it no longer does.

Whoever mends one takes its mark away and moves the test to the others of its subject.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app import metrics
from app.database import Database, after_commit, from_now
from app.models import Job, Step
from app.services import reconciler
from tests.support.deployment import run_bare
from tests.support.work import LONG_AGO, ON_POSTGRESQL, OVER, PATIENCE, accept, claimed, messages

GIVEN = """
import json, time
from fastapi.testclient import TestClient
from app.config import Settings
from app.main import create_app

settings = Settings(
    _env_file=None,
    broker_url="amqp://127.0.0.1:1//given",
    database_url="sqlite:///given.db",
    drain_seconds=1234,
    otlp_endpoint="http://127.0.0.1:1",
)
with TestClient(create_app(settings)):
    from celery.signals import worker_shutting_down
    from app import tracing
    from app.tasks import drain, signals
    from app.tasks.celery_app import celery_app

    worker_shutting_down.send(sender=None)
    endpoints = []
    tracing.start = lambda endpoint, service: endpoints.append(endpoint)
    signals._start_tracing()
    found = {
        "celery": celery_app.conf.broker_url,
        "drain": round(drain._deadline.value - time.monotonic(), -1),
        "tracing": endpoints[0],
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the parts of a process work with that was given settings by an argument, none by the environment."""
    folder: Path = tmp_path_factory.mktemp("given")
    (folder / "given.py").write_text(GIVEN)
    done = run_bare(folder, "given", PYTHONPATH=str(folder))
    if done.returncode:
        raise RuntimeError(done.stderr)  # the fault is not what was seen
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Celery, drain and tracing read the environment")
@pytest.mark.parametrize(
    ("part", "value"),
    [("celery", "amqp://127.0.0.1:1//given"), ("drain", 1230), ("tracing", "http://127.0.0.1:1")],
)
def test_every_part_works_with_the_settings_that_the_app_was_given(
    found: dict[str, object], part: str, value: object
) -> None:
    assert found[part] == value


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="equal callbacks are kept once")
def test_a_callback_that_is_asked_for_twice_is_called_twice(database: Database) -> None:
    before = metrics.STEP_RETRIES.labels("flip")._value.get()
    with database.session() as session:
        for _ in range(2):
            after_commit(session, metrics.STEP_RETRIES.labels("flip").inc)
    assert metrics.STEP_RETRIES.labels("flip")._value.get() == before + 2


@pytest.mark.xfail(strict=True, raises=ZeroDivisionError, reason="what a callback raises leaves the session")
def test_a_callback_that_fails_does_not_make_a_committed_transaction_look_failed(database: Database) -> None:
    called: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    with database.session() as session:
        after_commit(session, fail)
        after_commit(session, lambda: called.append("the next one"))
    assert called == ["the next one"]


def sweep(session: Session) -> object:
    return reconciler.sweep(session, redispatch_seconds=LONG_AGO / 2, waiting=lambda _queue: 0)


@pytest.fixture
def lost(database: Database) -> Callable[[], object]:
    """A job whose worker is silent, and whose message is in no queue; its id."""
    job_id = accept(database, ["convert_png"])
    claimed(database, job_id, "0", lease=OVER)
    messages(database)
    with database.session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=from_now(-LONG_AGO)))
    return lambda: job_id


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="the searches do not know of each other")
def test_a_sweep_sends_a_job_once(database: Database, lost: Callable[[], object]) -> None:
    with database.session() as session:
        sweep(session)
    assert len(messages(database)) == 1, lost()


@ON_POSTGRESQL
@pytest.mark.xfail(strict=True, raises=OperationalError, reason="steps are locked before their job")
def test_a_sweep_locks_a_job_before_its_steps(database: Database, lost: Callable[[], object]) -> None:
    def run() -> None:
        with database.session() as session:
            sweep(session)

    sweeping = threading.Thread(target=run)
    with database.session() as session:
        session.execute(select(Job.id).where(Job.id == lost()).with_for_update())
        sweeping.start()
        _await_waiting(database)
        try:
            session.execute(select(Step.id).where(Step.job_id == lost()).with_for_update(nowait=True))
        finally:
            session.rollback()
            sweeping.join(PATIENCE)


def _await_waiting(database: Database) -> None:
    """Return when somebody waits for a lock, or has had the time to."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    for _ in range(20):
        with database.session(read_only=True) as session:
            if session.scalar(text(query)):
                return
        threading.Event().wait(0.1)
