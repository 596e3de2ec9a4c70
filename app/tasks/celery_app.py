"""The Celery app: queues, routing, delivery guarantees. Configured from the settings on first use, not by import."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_shutting_down
from kombu import Exchange
from kombu import Queue as KombuQueue

from app.config import Settings
from app.logging_config import configure_logging
from app.operations import DEAD_LETTER_QUEUE, Queue
from app.tasks import drain, signals  # noqa: F401 - connects what every message and task gets

EXCHANGE = "pixtools"
MEMORY_POLLING = 0.01  # seconds; kombu's default of 1 s would be the latency of every embedded job
QUORUM = {"x-queue-type": "quorum"}
DEAD_LETTERING: dict[str, Any] = {
    # Far above what spot interruptions and deployments cost a message; attempts at a step are counted in the database.
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": EXCHANGE,
    "x-dead-letter-routing-key": DEAD_LETTER_QUEUE,
    # Only both together make RabbitMQ keep a dead letter until the other queue has confirmed it.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
MODULES = (
    "app.tasks.image_ops",
    "app.tasks.ml_ops",
    "app.tasks.finalize",
    "app.tasks.start",
)

GUARANTEES: dict[str, Any] = {
    # A message is acknowledged when its work is done; a worker that dies gives it back.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # Hangs a chord when a worker dies between storing and counting a result; the database's guards do its work.
    "worker_deduplicate_successful_tasks": False,
    # A Redis that blinks must not turn a finished task into a failed one.
    "result_backend_always_retry": True,
    "result_expires": 3600,  # seconds; results only count chord members, nobody reads them
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_proc_alive_timeout": 60,  # seconds; loading a network takes some
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_heartbeat": 30,  # seconds; how soon a vanished node is noticed
}


def _broker(settings: Settings) -> dict[str, Any]:
    if settings.embedded:
        return {"broker_transport_options": {"polling_interval": MEMORY_POLLING}, "task_queues": _queues(durable=False)}
    return {
        # An unconfirmed publish may be lost; a broker in alarm would block an unbounded one for ever.
        "broker_transport_options": {"confirm_publish": True, "read_timeout": 10, "write_timeout": 10},
        "task_queues": _queues(durable=True),
    }


def _queues(*, durable: bool) -> list[KombuQueue]:
    # By arguments and not by policy, so that every RabbitMQ has them, also one that only its provider configures.
    arguments = {**QUORUM, **DEAD_LETTERING} if durable else None
    exchange = _exchange(durable=durable)
    carrying = [
        KombuQueue(queue.value, exchange, routing_key=queue.value, queue_arguments=arguments) for queue in Queue
    ]
    return [*carrying, dead_letter_queue(durable=durable)]


def _exchange(*, durable: bool) -> Exchange:
    # topic, because native delayed delivery ignores direct ones
    return Exchange(EXCHANGE, type="topic", durable=durable)


def dead_letter_queue(*, durable: bool) -> KombuQueue:
    """Where messages go that RabbitMQ gives up, and those of steps that ended every worker; no worker takes them."""
    return KombuQueue(
        DEAD_LETTER_QUEUE,
        _exchange(durable=durable),
        routing_key=DEAD_LETTER_QUEUE,
        queue_arguments=QUORUM if durable else None,
    )


def configuration() -> dict[str, Any]:
    settings = Settings()
    return {
        "broker_url": settings.broker_url,
        "result_backend": settings.result_backend,
        "task_default_queue": Queue.DEFAULT.value,
        "task_default_exchange": EXCHANGE,
        "task_default_exchange_type": "topic",
        "task_default_routing_key": Queue.DEFAULT.value,
        "task_create_missing_queues": False,  # a typo must fail, not make a queue that nobody reads
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": not settings.embedded,
        **GUARANTEES,
        **_broker(settings),
    }


celery_app = Celery("pixtools", include=MODULES)
celery_app.add_defaults(configuration)
celery_app.loader.override_backends = {"cache": "app.tasks.memory_backend:MemoryBackend"}


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    drain.begin(Settings().drain_seconds)


@setup_logging.connect
def _configure_logging(**_: object) -> None:
    configure_logging(Settings().log_level)
