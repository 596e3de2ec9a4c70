"""Exports Celery's events as Prometheus metrics: which workers are alive, and how many tasks each is running.

Metrics and labels have the same names as in other Celery exporters, so that their dashboards can be used. The released
exporters cannot be used themselves: they declare event queues that RabbitMQ 4.3 refuses, whereas Celery's receiver
declares exclusive ones.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.config import current
from app.services.monitoring.broker import queue_depths
from app.tasks.celery_app import celery_app

log = logging.getLogger(__name__)

SILENT_SECONDS = 60.0  # a worker counts as dead after this time without a heartbeat; one is due every 2 s
FORGOTTEN_SECONDS = 600.0  # a dead worker is listed for this time
RETRY_SECONDS = 5.0
AWAY = (OSError, AMQPError, KombuError)


@dataclass
class _Worker:
    seen_at: float
    active: int
    online: bool = True


@dataclass(eq=False)  # hashable: the registry uses it as a key
class Workers(Collector):
    """The workers that have sent events. Events arrive in one thread, scrapes in others."""

    broker_url: str
    _known: dict[str, _Worker] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        """Note one event of a worker."""
        gone = event["type"] == "worker-offline"
        self._known[event["hostname"]] = _Worker(time.monotonic(), event.get("active", 0), not gone)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics for a scrape. While the broker is away, only the metrics of queues are missing."""
        up = GaugeMetricFamily("celery_worker_up", "1: heartbeats come.", labels=["hostname"])
        active = GaugeMetricFamily("celery_worker_tasks_active", "Tasks that it works on.", labels=["hostname"])
        now = time.monotonic()
        for name, worker in sorted(self._known.copy().items()):
            silent = now - worker.seen_at
            if silent > FORGOTTEN_SECONDS:
                self._known.pop(name, None)
                continue
            alive = worker.online and silent < SILENT_SECONDS
            up.add_metric([name], float(alive))
            active.add_metric([name], float(worker.active if alive else 0))
        yield from (up, active, self._lengths())

    def _lengths(self) -> GaugeMetricFamily:
        length = GaugeMetricFamily("celery_queue_length", "Messages that wait.", labels=["queue_name"])
        try:
            states = queue_depths(self.broker_url)
        except AWAY:
            log.warning("broker_not_asked", exc_info=True)
            return length
        for name, state in states.items():
            length.add_metric([name], state.messages)
        return length


def serve(host: str, port: int) -> NoReturn:
    """Answer scrapes and listen to events until the process ends."""
    workers = Workers(current().broker_url)
    registry = CollectorRegistry()
    registry.register(workers)
    start_http_server(port, host, registry=registry)
    log.info("exporter_started", extra={"port": port})
    while True:
        try:
            _listen(workers)
        except AWAY:
            log.warning("events_interrupted", exc_info=True)
        time.sleep(RETRY_SECONDS)


def _listen(workers: Workers) -> None:
    names = ("worker-online", "worker-heartbeat", "worker-offline")
    with celery_app.connection_for_read() as connection:
        receiver = celery_app.events.Receiver(connection, handlers=dict.fromkeys(names, workers.take))
        receiver.capture(limit=None, timeout=None, wakeup=False)
