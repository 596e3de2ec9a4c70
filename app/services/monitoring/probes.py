"""The checks behind `/health`, `/metrics` and `pixtools doctor`: one for each part that this process needs."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database import Database
from app.operations import Queue
from app.services.monitoring.broker import queue_depths
from app.services.monitoring.checks import Checks, Degraded, Question
from app.services.monitoring.disk_space import Room
from app.services.scheduling.window import Depth
from app.services.storage.keys import HEALTH
from app.services.storage.object_store import ObjectStore

ESSENTIAL = ("database", "storage", "disk")  # no work is accepted if one of these fails
WRITE_SECONDS = 10.0  # between two writes to the storage, which cost money in a cloud; after a failure always
REDIS_TIMEOUT = 2.0  # seconds
SAMPLE = bytes(8192)  # more than the free rest of a block on a full disk


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The checks of all parts."""

    database: Database
    storage: ObjectStore
    #: None in the embedded mode
    broker_url: str | None
    redis_urls: frozenset[str]
    #: embedded mode only, by queue: a function that reports whether the queue's worker runs
    local_workers: Mapping[Queue, Callable[[], bool]]
    weights: tuple[Path, ...]
    check_network: Callable[[], None]
    room: Room
    #: modification times of weights that were found to be valid
    _checked: set[tuple[float, ...]] = field(default_factory=set)
    #: when an object was last written to the storage
    _written_at: list[float] = field(default_factory=lambda: [float("-inf")])

    def checks(self) -> Checks:
        questions = {
            "database": Question(self._ask_database),
            "storage": Question(self._ask_storage),
            "disk": Question(self._ask_disk),
        }
        if self.redis_urls:
            questions["redis"] = Question(self._ask_redis)
        if self.broker_url:
            broker = questions["broker"] = Question(self._ask_broker)
            questions["workers"] = Question(lambda: self._ask_workers(broker))
            questions["model"] = Question(lambda: self._ask_for_ml_worker(broker))
        else:
            questions["workers"] = Question(self._ask_local_workers)
            questions["model"] = Question(self._ask_model)
        return Checks(questions, ESSENTIAL)

    async def _ask_database(self) -> None:
        await self.database.read(_select_one)
        await self.database.check_room()

    async def _ask_storage(self) -> None:
        await self.storage.size(HEALTH)
        if time.monotonic() - self._written_at[0] >= WRITE_SECONDS:
            self._written_at[0] = float("-inf")
            await self.storage.check_writing(HEALTH, SAMPLE)
            self._written_at[0] = time.monotonic()

    async def _ask_disk(self) -> None:
        await asyncio.to_thread(self.room.probe)

    async def _ask_redis(self) -> None:
        for url in self.redis_urls:
            async with Redis.from_url(
                url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT
            ) as client:
                await client.ping()

    async def _ask_broker(self) -> dict[str, Depth]:
        return await asyncio.to_thread(queue_depths, self.broker_url or "")

    async def _ask_workers(self, broker: Question) -> dict[str, int]:
        states = await _states(broker)
        workers = {queue.value: states[queue].workers for queue in Queue}
        _require({queue: number for queue, number in workers.items() if _waits(states, queue)})
        return workers

    async def _ask_local_workers(self) -> dict[str, int]:
        workers = {queue.value: int(queue in self.local_workers and self.local_workers[queue]()) for queue in Queue}
        _require(workers)
        return workers

    async def _ask_model(self) -> None:
        changed = tuple(file.stat().st_mtime for file in self.weights)
        if changed not in self._checked:
            await asyncio.to_thread(self.check_network)
            self._checked.add(changed)

    async def _ask_for_ml_worker(self, broker: Question) -> None:
        """Check that an ML worker is running; it would not start if it could not read its weights."""
        states = await _states(broker)
        if _waits(states, Queue.ML) and not states[Queue.ML].workers:
            raise Degraded("no worker runs the network")


async def _states(broker: Question) -> dict[str, Depth]:
    answer = await broker.check()
    if answer.value is None:
        raise Degraded("the broker does not answer")
    states: dict[str, Depth] = answer.value
    return states


def _waits(states: Mapping[str, Depth], queue: str) -> bool:
    """Whether work waits in a queue. Workers of an empty queue are not needed: an autoscaler may have stopped them."""
    return states[queue].messages > 0


def _require(workers: Mapping[str, int]) -> None:
    # without a spare process small work goes to the default queue
    missing = [queue for queue, number in workers.items() if not number and queue != Queue.SMALL.value]
    if missing:
        raise Degraded(f"no worker for {', '.join(missing)}")


def _select_one(session: Session) -> None:
    session.execute(text("SELECT 1"))
