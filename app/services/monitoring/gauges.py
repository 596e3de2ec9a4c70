"""The gauges that a scrape of the API adds to the counters of its processes: backlog, queues and dependencies.

They are read on request, at most every few seconds. Only the API reads them: otherwise a hundred workers would run the
same queries.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from app import metrics
from app.database import Database
from app.models import JOB_OPEN
from app.operations import Queue
from app.services.monitoring.backlog import Backlog, measure
from app.services.monitoring.checks import Check, Checks, Health, Question
from app.services.scheduling.window import Depth
from app.services.webhooks.breakers import Breakers

FRESH_SECONDS = 4.0  # below the usual interval between two scrapes


class Gauges:
    """The gauges of one API process."""

    def __init__(self, database: Database, checks: Checks, breakers: Breakers) -> None:
        self._checks = checks
        self._backlog = Question(lambda: database.read(measure))
        self._breakers = Question(lambda: asyncio.to_thread(breakers.open_hosts))
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._families: tuple[Metric, ...] = ()

    async def read(self) -> tuple[Metric, ...]:
        """The current gauges; those that cannot be read are left out."""
        async with self._lock:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                backlog, breakers, checks = await asyncio.gather(
                    self._backlog.check(), self._breakers.check(), self._checks.run()
                )
                self._families = tuple(_families(backlog.value, breakers.value, checks))
                self._read_at = time.monotonic()
            return self._families


def _families(backlog: Backlog | None, breakers: int | None, checks: Mapping[str, Check]) -> Iterator[Metric]:
    if backlog is not None:
        yield from _of_backlog(backlog)
    if breakers is not None:
        yield metrics.WEBHOOK_BREAKERS.family({("open",): breakers})
    dependencies = {(name,): check for name, check in checks.items()}
    yield metrics.DEPENDENCY_UP.family({name: float(c.health is Health.OK) for name, c in dependencies.items()})
    yield metrics.DEPENDENCY_SECONDS.family({name: check.seconds for name, check in dependencies.items()})
    broker = checks.get("broker")
    if broker and broker.value is not None:
        yield from _of_queues(broker.value)


def _of_backlog(backlog: Backlog) -> Iterator[Metric]:
    queues = [queue.value for queue in Queue]
    yield metrics.OUTBOX_WAITING.family({(): backlog.outbox_waiting})
    yield metrics.OUTBOX_LAG.family({(): backlog.outbox_lag_seconds})
    yield metrics.OPEN_JOBS.family({(status.value,): backlog.open_jobs.get(status, 0) for status in JOB_OPEN})
    yield metrics.TENANT_OPEN_JOBS.family({(): backlog.tenant_open_jobs})
    yield metrics.DUE_TASKS.family({(queue,): backlog.due_tasks.get(queue, 0) for queue in queues})
    yield metrics.QUEUE_AGE.family({(queue,): backlog.queue_age_seconds.get(queue, 0.0) for queue in queues})
    yield metrics.STEPS_RUNNING.family({(queue,): backlog.steps_running.get(queue, 0) for queue in queues})
    yield metrics.DEAD_LETTERS_WAITING.family({(): backlog.dead_letters})
    yield metrics.WEBHOOKS_PENDING.family({(): backlog.webhooks_pending})


def _of_queues(states: Mapping[str, Depth]) -> Iterator[Metric]:
    yield metrics.QUEUE_MESSAGES.family({(name,): state.messages for name, state in states.items()})
    yield metrics.QUEUE_WORKERS.family({(queue.value,): states[queue].workers for queue in Queue})
