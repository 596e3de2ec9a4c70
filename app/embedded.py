"""The parts of the embedded mode besides the API: a locked data folder, and workers in threads."""

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio.to_thread

from app.errors import CannotStart
from app.operations import Queue
from app.services.execution.attempts import TASK_FOLDER
from app.services.upkeep import secrets
from app.services.upkeep.reconciler import resume_all
from app.services.webhooks import deliveries, replays
from app.tasks import drain, runtime
from app.tasks.local_worker import LocalWorker
from app.wiring import Resources

log = logging.getLogger(__name__)


@contextmanager
def only_process(data_dir: Path) -> Iterator[None]:
    """Lock the data folder for this process, which would take the running jobs of another one for abandoned.

    Raises:
        CannotStart: the folder is in use by another process, or cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "lock").open("w")
    except OSError as error:
        raise CannotStart(
            f"The data folder {data_dir} cannot be used: {error.strerror}; choose another one with PIXTOOLS_DATA_DIR."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"The data folder {data_dir} is in use by another PixTools process; "
                "stop it, or choose another folder with PIXTOOLS_DATA_DIR."
            ) from None
        yield


async def start_workers(resources: Resources, stack: AsyncExitStack) -> None:
    """Start the workers, and resume the work that an earlier process has left; the stack stops them."""
    settings = resources.settings
    resources.check_network()
    await anyio.to_thread.run_sync(_clear, settings.spool)
    runtime.use(resources)
    threads = {
        Queue.DEFAULT: settings.worker_concurrency,
        Queue.SMALL: 1,
        Queue.ML: 1,
        Queue.WEBHOOK: settings.webhook_concurrency,
        Queue.FETCH: settings.fetch_concurrency,
    }
    for queue, concurrency in threads.items():
        worker = LocalWorker(queue, concurrency)
        await anyio.to_thread.run_sync(worker.start)
        resources.local_workers[queue] = worker.is_alive
        stack.push_async_callback(anyio.to_thread.run_sync, worker.stop)
    stack.callback(drain.begin, 0)  # running tasks return to the queue and start again with the next process
    sealed = await anyio.to_thread.run_sync(secrets.rotate_all, resources.database)
    resumed = await resources.database.call(resume_all)
    deliveries_resumed = await resources.database.call(deliveries.resume)
    repeated = await resources.database.call(replays.resume)
    if sealed.sealed or sealed.unreadable:
        log.info("secrets_encrypted", extra={"secrets": sealed.sealed, "unreadable": sealed.unreadable})
    if resumed or deliveries_resumed or repeated:
        resumed_work = {"jobs": resumed, "webhook_deliveries": deliveries_resumed, "webhook_replays": repeated}
        log.info("work_resumed", extra=resumed_work)


def _clear(spool: Path) -> None:
    """Remove copies of uploads that a killed process has left behind."""
    for folder in spool.glob(f"{TASK_FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)
