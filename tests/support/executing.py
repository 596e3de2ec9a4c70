"""Runs the tasks of jobs: an executor with a local store, and renderers and services that fail."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.imaging import pipeline
from app.imaging.recipe import Limits, Monitor, Rendered, Stage, Target
from app.models import (
    Event,
    StepAttempt,
)
from app.services.execution.delivering import Deliverer
from app.services.execution.executor import Executor, Renderer
from app.services.execution.input_cache import InputCache
from app.services.storage.keys import input_key
from app.services.storage.local import LocalFolder
from app.services.storage.places import Places

from .work import (
    LEASE,
    MAX_ATTEMPTS,
)


def executor_with(renderer: Renderer, database: Database, storage: LocalFolder, folder: Path) -> Executor:
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    return Executor(
        database=database,
        storage=storage,
        renderer_of=lambda _queue: renderer,
        deliverer=Deliverer(database, Places()),
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


@dataclass
class Meanwhile:
    """A renderer that calls a function before it renders."""

    happening: Callable[[], object]

    def __call__(
        self, source: Path, stages: Sequence[Stage], targets: Sequence[Target], limits: Limits, *, monitor: Monitor
    ) -> list[Rendered | None]:
        self.happening()
        return pipeline.render(source, stages, targets, limits, monitor)


@dataclass
class Failing:
    """A service that fails the first few times as if the database were down."""

    service: Callable[..., Any]
    times: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.times:
            self.times -= 1
            raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))
        return self.service(*args, **kwargs)


# -- the end of a job --------------------------------------------------------------------------------------------------


def events_of(database: Database, job_id: UUID) -> list[str]:
    with database.session(read_only=True) as session:
        return list(session.scalars(select(Event.type).where(Event.job_id == job_id)))


def attempts_of(database: Database, job_id: UUID) -> dict[str, list[tuple[int, str | None]]]:
    """The number and the outcome of every attempt, by task."""
    with database.session(read_only=True) as session:
        found: dict[str, list[tuple[int, str | None]]] = {}
        for attempt in session.scalars(select(StepAttempt).where(StepAttempt.job_id == job_id)):
            found.setdefault(attempt.task, []).append((attempt.number, attempt.outcome))
        return found
