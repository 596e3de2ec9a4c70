"""Jobs in real databases of each kind, and helpers for their tests."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.database import Database
from app.errors import CorruptImage
from app.imaging.probe import ImageHeader
from app.keyring import Keyring
from app.models import (
    DEFAULT_PRIORITY,
    ApiKey,
    Asset,
    AssetObject,
    Counter,
    DeadLetter,
    DueTask,
    Event,
    IdempotencyKey,
    Job,
    JobTombstone,
    OutboxMessage,
    Result,
    Step,
    StepAttempt,
    Template,
    TemplateVersion,
    TenantRecord,
    TenantTurn,
    WebhookEndpoint,
    WebhookSecret,
)
from app.services import jobs, steps
from app.services.access import keys
from app.services.access.limits import TenantLimits
from app.services.dag_builder import plan
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.steps import Claim, StoredResult
from app.tenancy import DEFAULT_TENANT

from .schema import migrated_database, migrated_file

T = TypeVar("T")

MAX_ATTEMPTS = 3
LEASE = 60.0  # seconds
OVER = -1.0  # seconds of a lease that expires as soon as it is taken
LONG_AGO = 3600.0  # seconds
PATIENCE = 20.0  # seconds to wait for something that should happen at once
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.integration)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", [POSTGRESQL], indirect=True)
EMPTIED = (
    ApiKey,
    DueTask,
    TenantTurn,
    IdempotencyKey,
    Event,
    WebhookEndpoint,
    Result,
    StepAttempt,
    Step,
    OutboxMessage,
    DeadLetter,
    Job,
    JobTombstone,
    TemplateVersion,
    Template,
    Asset,
    AssetObject,
)
EMPTYING = [
    *(f"DELETE FROM {table.__tablename__}" for table in EMPTIED),
    f"DELETE FROM {WebhookSecret.__tablename__} WHERE tenant <> '{DEFAULT_TENANT}'",
    f"DELETE FROM {TenantRecord.__tablename__} WHERE name <> '{DEFAULT_TENANT}'",
    f"UPDATE {Counter.__tablename__} SET value = 0 WHERE name = '{keys.COUNTER}'",
]
KEYS = "of the tests and of nothing else"
KEYRING = Keyring.of(KEYS)
TREE: list[Any] = [{"op": "resize", "width": 100, "then": ["convert_webp", "convert_png"]}, "convert_jpeg"]
OUTCOME = StoredResult(
    key="key",
    filename="photo.png",
    format="png",
    content_type="image/png",
    width=1,
    height=1,
    bytes=1,
    sha256="0" * 64,
)


@pytest.fixture(scope="module", params=["sqlite", POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty database of each kind, with the current schema."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("tasks")
        return migrated_file(folder / "pixtools.db", tmp_path_factory.getbasetemp() / "migrated.db")
    return migrated_database(request.getfixturevalue("postgresql"), f"tasks-{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def engines(database_url: str) -> Iterator[Database]:
    """The owner of the engines that all tests of a file use, which compile each statement once."""
    with closing(Database(database_url)) as owner:
        yield owner


@pytest.fixture
def database(database_url: str, engines: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database that is emptied after each test; random pauses always have their greatest value."""
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    monkeypatch.setattr("app.database.CLOSE_SECONDS", 30.0)  # the server is there, but a busy machine may be slow
    database = Database(database_url, keyring=lambda: KEYRING)
    database.engine = engines.engine
    yield database
    with database.session() as session:
        # PostgreSQL takes all of them in one message
        for statement in EMPTYING if database.is_sqlite else ["; ".join(EMPTYING)]:
            session.connection().exec_driver_sql(statement)
    del database.engine  # the next test has it too
    database.close()


def accept(
    database: Database,
    tree: list[Any] = TREE,
    *,
    content: bytes = b"",
    webhook_url: str | None = None,
    priority: int = DEFAULT_PRIORITY,
    size: tuple[int, int] = (640, 480),
    tenant: str = DEFAULT_TENANT,
    limits: TenantLimits | None = None,
    kept_seconds: int = 3600,
    **more: Any,
) -> UUID:
    """Accept a job and remove its messages from the outbox; `more` are further fields of `NewJob`."""
    raw, branches = parse_tree(json.dumps(tree), TreeLimits(nodes=40, depth=5, bytes=10_000))
    new = jobs.NewJob(
        id=uuid7(),
        operations=raw,
        branches=branches,
        plan=plan(branches, "jpeg"),
        webhook_url=webhook_url,
        base_url="http://pixtools.test",
        filename="photo.jpg",
        header=ImageHeader("jpeg", *size),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        kept_seconds=kept_seconds,
        priority=priority,
        tenant=tenant,
        **more,
    )
    with database.session() as session:
        jobs.accept(session, new, limits)
    messages(database)
    return new.id


def messages(database: Database) -> list[tuple[str, list[Any], int]]:
    """Remove all messages from the outbox; returns task, arguments and delay in seconds of each."""
    with database.session() as session:
        rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
        session.execute(delete(OutboxMessage))
        return [(row.task, row.args, round((row.available_at - row.created_at).total_seconds())) for row in rows]


def claim(
    database: Database,
    job_id: UUID,
    task: str,
    owner: str = "worker",
    *,
    lease: float = LEASE,
    most: int = MAX_ATTEMPTS,
) -> Claim | None:
    with database.session() as session:
        return steps.claim(session, job_id, task, owner=owner, lease_seconds=lease, max_attempts=most)


def claimed(database: Database, job_id: UUID, task: str, owner: str = "worker", *, lease: float = LEASE) -> Claim:
    held = claim(database, job_id, task, owner, lease=lease)
    assert held is not None
    return held


def succeed(database: Database, held: Claim) -> bool:
    outcome = replace(OUTCOME, key=f"key-{held.attempt}")
    with database.session() as session:
        return steps.succeed(session, held, {held.task.id: [outcome]} if held.task.result else {})


def fail(database: Database, held: Claim, error: Any = None) -> bool:
    with database.session() as session:
        return steps.fail(session, held, error or CorruptImage(), max_attempts=MAX_ATTEMPTS)


def run_task(database: Database, job_id: UUID, task: str) -> None:
    assert succeed(database, claimed(database, job_id, task))


def job_of(database: Database, job_id: UUID) -> Job:
    with database.session(read_only=True) as session:
        return jobs.get(session, job_id)


def step_of(database: Database, job_id: UUID, step_id: str) -> Step:
    return next(step for step in job_of(database, job_id).steps if step.id == step_id)


def states(database: Database, job_id: UUID) -> dict[str, str]:
    return {step.id: step.status for step in job_of(database, job_id).steps}


def change(database: Database, statement: Any) -> None:
    with database.session() as session:
        session.execute(statement)


def crash_after(database: Database, service: Callable[[Session], object]) -> None:
    """Run a service in a transaction that crashes before its commit."""

    def crash() -> None:
        with database.session() as session:
            service(session)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()


def in_parallel(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Start all calls at the same moment; returns their results."""
    barrier = threading.Barrier(len(calls))

    def start(call: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(start, calls))


def today() -> date:
    """The day of the limits and of usage; asked for anew each time, since a run may last past midnight."""
    return datetime.now(UTC).date()
