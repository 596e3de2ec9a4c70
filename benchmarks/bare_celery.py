"""A Celery task on a quorum queue and nothing else, for comparison in `latency.py`."""

import os
import time

from celery import Celery
from kombu import Exchange, Queue

app = Celery("bare", broker=os.environ["BARE_BROKER"])
app.conf.update(
    task_queues=[Queue("bare", Exchange("bare"), routing_key="bare", queue_arguments={"x-queue-type": "quorum"})],
    task_default_queue="bare",
    task_default_exchange="bare",
    task_default_routing_key="bare",
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"confirm_publish": True},
)


@app.task(name="bare.note", ignore_result=True)
def note(sent_at: float, path: str) -> None:
    """Append the delay from sending to start, in seconds, to a file."""
    delay = time.time() - sent_at
    with open(path, "a") as file:  # noqa: PTH123 - with as little overhead as possible
        file.write(f"{delay}\n")
