"""A Celery worker in a thread of this process, for the embedded mode. It runs the same tasks as any other worker."""

import logging
import threading

from celery.worker import state

from app.operations import Queue
from app.tasks.celery_app import celery_app
from app.tasks.memory_broker import CHANGES

START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 5.0  # seconds; tasks that have not ended by then are repeated at the next start


class LocalWorker:
    """A worker with a pool of threads for one queue, so that queues never wait for each other."""

    def __init__(self, queue: Queue, concurrency: int) -> None:
        self._ready = threading.Event()
        celery_app.finalize()
        celery_app.set_default()  # otherwise the pool's threads receive tasks and never run them
        # not `Worker`: its signal handlers need the main thread
        self._worker = celery_app.WorkController(
            hostname=f"{queue.value}@embedded",
            queues=[queue.value],
            pool="threads",
            concurrency=concurrency,
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            ready_callback=lambda _consumer: self._ready.set(),
        )
        self._thread = threading.Thread(target=self._worker.start, name=f"celery-{queue.value}", daemon=True)

    def start(self) -> None:
        CHANGES.interrupt(on=False)
        logging.getLogger("celery.worker.consumer.connection").setLevel(logging.WARNING)  # it connects to this process
        state.should_stop = None  # may be set by an earlier worker of this process
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT):
            raise RuntimeError("the embedded worker did not start")

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        state.should_stop = 0
        CHANGES.interrupt()
        self._thread.join(STOP_TIMEOUT)
