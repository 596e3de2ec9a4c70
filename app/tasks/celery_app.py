"""The Celery app: queues, routing, delivery guarantees. The settings are read on first use, not on import."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_shutting_down
from kombu import Exchange
from kombu import Queue as KombuQueue

from app.config import Settings, current
from app.logging_config import configure_logging
from app.operations import DEAD_LETTER_QUEUE, Queue
from app.private import keep_new_files_private
from app.tasks import declaration, drain, signals, spare  # noqa: F401 - `signals` connects what every message and task gets

EXCHANGE = "pixtools"
MEMORY_TRANSPORT = "app.tasks.memory_broker:Transport"
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
# RabbitMQ 4 would drop a dead letter after 20 readers that died over it.
UNLIMITED = {"x-delivery-limit": 1_000_000_000}
MODULES = (
    "app.tasks.image_ops",
    "app.tasks.ml_ops",
    "app.tasks.finalize",
    "app.tasks.webhooks",
    "app.tasks.fetch",
    "app.tasks.start",
    "app.tasks.maintenance",
)
RECONCILE = "pixtools.reconcile"
REMOVE_EXPIRED = "pixtools.remove_expired"

GUARANTEES: dict[str, Any] = {
    # A message is acknowledged when its work is done; if a worker dies, the message returns to its queue.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # It would hang a chord when a worker dies between storing and counting a result; the database's guards replace it.
    "worker_deduplicate_successful_tasks": False,
    # Tasks record their outcomes in the database; Celery's results are not read.
    "task_ignore_result": True,
    "result_chord_expires": 3600,  # seconds; if a chord's count is lost, the database ends the job
    # Redis being away must not delay workers: only the counts of chords are lost.
    "result_backend_transport_options": {"retry_policy": {"max_retries": 2, "interval_step": 0.2, "interval_max": 1}},
    "redis_socket_timeout": 2.0,
    "redis_socket_connect_timeout": 2.0,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_proc_alive_timeout": 60,  # seconds; loading a network takes some
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_heartbeat": 30,  # seconds; how soon a vanished node is noticed
}


def _broker(settings: Settings) -> dict[str, Any]:
    if settings.embedded:
        return {"broker_transport": MEMORY_TRANSPORT, "task_queues": _queues(durable=False)}
    return {
        # An unconfirmed publish may be lost; a broker in alarm would block an unbounded one for ever.
        "broker_transport_options": {"confirm_publish": True, "read_timeout": 10, "write_timeout": 10},
        "task_queues": _queues(durable=True),
    }


def _queues(*, durable: bool) -> list[KombuQueue]:
    # By arguments and not by policy, so that they also apply on a RabbitMQ that only its provider can configure.
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
    """The queue for messages that RabbitMQ gives up and for steps that crashed every worker; no worker reads it."""
    return KombuQueue(
        DEAD_LETTER_QUEUE,
        _exchange(durable=durable),
        routing_key=DEAD_LETTER_QUEUE,
        queue_arguments={**QUORUM, **UNLIMITED} if durable else None,
    )


def configuration() -> dict[str, Any]:
    settings = current()
    return {
        "broker_url": settings.broker_url,
        "result_backend": settings.result_backend,
        "task_default_queue": Queue.DEFAULT.value,
        "task_default_exchange": EXCHANGE,
        "task_default_exchange_type": "topic",
        "task_default_routing_key": Queue.DEFAULT.value,
        "task_create_missing_queues": False,  # a typo must fail, not make a queue without a reader
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": not settings.embedded,
        # no `expires`: RabbitMQ would move expired messages to the dead letters
        "beat_schedule": {
            RECONCILE: {"task": RECONCILE, "schedule": settings.reconcile_seconds},
            REMOVE_EXPIRED: {"task": REMOVE_EXPIRED, "schedule": settings.retention_seconds},
        },
        **GUARANTEES,
        **_broker(settings),
    }


celery_app = Celery("pixtools", include=MODULES)
celery_app.add_defaults(configuration)
spare.add_to(celery_app)
declaration.add_to(celery_app)
celery_app.loader.override_backends = {
    "cache": "app.tasks.memory_backend:MemoryBackend",
    "redis": "app.tasks.redis_backend:CountingRedisBackend",
    "rediss": "app.tasks.redis_backend:CountingRedisBackend",
}


def use(settings: Settings) -> None:
    """Make Celery, its signals and its tasks use these settings, even if they have used others before."""
    current.use(settings)
    if celery_app.configured:
        celery_app.conf.update(configuration())
        celery_app.__dict__.pop("amqp", None)  # its queues are those of the settings before


@worker_init.connect
def _start(**_: object) -> None:
    drain.reset()


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    drain.begin(current().drain_seconds)


@setup_logging.connect
def _configure_logging(**_: object) -> None:
    keep_new_files_private()
    configure_logging(current().log_level)
