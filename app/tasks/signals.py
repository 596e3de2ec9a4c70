"""Celery signals that attach request, job and trace to every message and task, and count metrics.

Importing `celery_app` connects them; the tasks themselves do not refer to them.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from celery import Task
from celery.concurrency import get_implementation
from celery.signals import (
    before_task_publish,
    celeryd_after_setup,
    celeryd_init,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)
from opentelemetry.trace import Span, SpanKind
from prometheus_client import start_http_server

from app import metrics, slots, tracing
from app.config import current
from app.errors import CannotStart
from app.operations import Queue
from app.services.outbox import DELIVER_WEBHOOK, REPLAY_WEBHOOKS
from app.wiring import Resources, check_installed

log = logging.getLogger(__name__)

HEADER = "pixtools"  # message header with the sending time and the context of `tracing.carrier`
SENT_AT = "sent_at"

_stop_tracing: list[Callable[[], None]] = []
_servers: list[Any] = []


@before_task_publish.connect
def _address(headers: dict[str, Any], **_: object) -> None:
    carried = tracing.carrier()
    # the standard's own headers too, for other readers of messages
    headers.update({name: carried[name] for name in ("traceparent", "tracestate") if name in carried})
    headers[HEADER] = {**carried, SENT_AT: time.time()}


@task_prerun.connect
def _begin(task: Task, args: Sequence[Any], **_: object) -> None:
    carried: Mapping[str, Any] = task.request.get(HEADER) or {}
    queue = metrics.known(str((task.request.delivery_info or {}).get("routing_key")), set(Queue))
    if SENT_AT in carried:
        metrics.QUEUE_WAIT_SECONDS.labels(queue).observe(max(0.0, time.time() - carried[SENT_AT]))
    task.request.pixtools_context = stack = ExitStack()
    attributes = {"messaging.system": "celery", "messaging.destination.name": queue}
    span = stack.enter_context(tracing.continued(carried, task.name, SpanKind.CONSUMER, **attributes))
    stack.enter_context(tracing.bound(**_subject(task.name, args)))
    task.request.pixtools_span = span


def _subject(name: str, args: Sequence[Any]) -> dict[str, str]:
    """The ids of a message's job and task, for log lines."""
    if name == DELIVER_WEBHOOK:
        return {"delivery_id": str(args[0])}
    if name == REPLAY_WEBHOOKS:
        return {"replay_id": str(args[0])}
    given = zip((tracing.JOB_ID, tracing.TASK), args, strict=False)
    return {field: str(value) for field, value in given if value is not None}


@task_postrun.connect
def _end(task: Task, state: str | None = None, **_: object) -> None:
    span: Span = task.request.pixtools_span
    if state == "FAILURE":
        tracing.fail(span, state)
    task.request.pixtools_context.close()
    tracing.forget()  # also what the task itself has bound


@celeryd_init.connect
def _adapt_to_threads(conf: Any, options: dict[str, Any], **_: object) -> None:
    if get_implementation(options.get("pool") or "prefork").__module__ == "celery.concurrency.thread":
        # threads cannot be cancelled when the broker is lost; leases fence off a second run of their work
        conf.worker_cancel_long_running_tasks_on_connection_loss = False
        _start_tracing()  # at once, since this pool does not fork


@celeryd_after_setup.connect
def _check_installation(instance: Any, **_: object) -> None:
    """Refuse to start a worker whose tasks would all fail."""
    try:
        queues = set(Queue).intersection(instance.app.amqp.queues.consume_from)
        for queue in queues:
            check_installed(queue)
        if queues & {Queue.WEBHOOK, Queue.FETCH}:
            Resources(current()).check_keyring()  # decrypts signing keys and the headers of sources
    except CannotStart as error:
        raise SystemExit(error.message) from None


@worker_process_init.connect
def _begin_child(**_: object) -> None:
    for server in _servers:
        server.socket.close()  # inherited; a port must be free when its worker is gone
    _start_tracing()


def _start_tracing() -> None:
    _stop_tracing[:] = [tracing.start(current().otlp_endpoint, "worker")]


@worker_shutdown.connect
@worker_process_shutdown.connect
def _send_last_spans(**_: object) -> None:
    for stop in _stop_tracing:
        stop()


@worker_ready.connect
def _serve_metrics(**_: object) -> None:
    settings = current()
    if settings.metrics_port is None:
        return
    serve_metrics(settings.host, settings.metrics_port)
    if slots.folder() is None:
        log.warning("metrics_of_children_unseen", extra={"hint": f"set {slots.FOLDER} or run `pixtools worker`"})


def serve_metrics(host: str, port: int) -> None:
    """Answer scrapes in a thread; if the port is in use, only the metrics are missing."""
    try:
        server, _ = start_http_server(port, host, registry=metrics.Exposition())
    except OSError:
        log.exception("metrics_not_served", extra={"port": port})
    else:
        _servers.append(server)
