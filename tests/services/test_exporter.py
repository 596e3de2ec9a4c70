"""What celery-exporter makes of the events that it has seen."""

import pytest
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry

from app.services.scheduling.window import Depth
from app.tasks import exporter
from app.tasks.exporter import FORGOTTEN_SECONDS, SILENT_SECONDS, Workers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(exporter.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> Workers:
    states = {"default_queue": Depth(messages=3, workers=1)}
    monkeypatch.setattr(exporter, "queue_depths", lambda _: states)
    return Workers("amqp://broker.example")


def series_of(workers: Workers) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(workers)
    return {
        (family.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_a_worker_is_up_while_heartbeats_come(workers: Workers, clock: list[float]) -> None:
    workers.take({"type": "worker-heartbeat", "hostname": "worker@a", "active": 2})
    assert series_of(workers) == {
        ("celery_worker_up", "worker@a"): 1,
        ("celery_worker_tasks_active", "worker@a"): 2,
        ("celery_queue_length", "default_queue"): 3,
    }
    clock[0] += SILENT_SECONDS
    assert series_of(workers)["celery_worker_up", "worker@a"] == 0
    assert series_of(workers)["celery_worker_tasks_active", "worker@a"] == 0


def test_a_worker_that_says_so_is_gone_at_once_and_forgotten_later(workers: Workers, clock: list[float]) -> None:
    workers.take({"type": "worker-online", "hostname": "worker@a"})
    workers.take({"type": "worker-offline", "hostname": "worker@a"})
    assert series_of(workers)["celery_worker_up", "worker@a"] == 0
    clock[0] += FORGOTTEN_SECONDS + 1
    assert ("celery_worker_up", "worker@a") not in series_of(workers)


def test_a_broker_that_is_away_costs_the_queues_alone(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: str) -> dict[str, Depth]:
        raise OperationalError

    monkeypatch.setattr(exporter, "queue_depths", away)
    workers.take({"type": "worker-heartbeat", "hostname": "worker@a", "active": 0})
    assert set(series_of(workers)) == {("celery_worker_up", "worker@a"), ("celery_worker_tasks_active", "worker@a")}
