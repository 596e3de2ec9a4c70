"""The API: `create_app()` and its lifespan. `uvicorn app.main:app` serves it."""

import fcntl
import gc
import logging
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

import anyio.to_thread
from fastapi import Depends, FastAPI

from app import __version__, background, private, problems, tracing
from app.admission import AdmissionMiddleware
from app.bodies import BodyMiddleware
from app.config import Settings
from app.errors import CannotStart
from app.logging_config import configure_logging
from app.middleware import RequestMiddleware
from app.migrations import upgrade
from app.operations import Queue
from app.routers import docs, downloads, events, health, jobs, metrics, operations, webhooks
from app.routers.dependencies import only_known_parameters
from app.routers.document import TAGS, Api, operation_id
from app.services.execution.executor import TASK_FOLDER
from app.services.upkeep.reconciler import resume_all
from app.services.webhooks import deliveries, replays
from app.tasks import celery_app, drain, runtime
from app.tasks.local_worker import LocalWorker
from app.wiring import Resources

log = logging.getLogger(__name__)

DESCRIPTION = """
Self-hosted, asynchronous image processing: upload an image with a tree of operations to `POST /process`, get a job
back at once, and its results by polling, by `Prefer: wait` or by webhook.

An operation tree is a JSON array of parallel branches. An entry is a name or an object with parameters; `then`
continues from its output with an array of its own:

```json
["convert_avif",
 {"op": "resize", "width": 1280, "then": ["convert_webp", {"op": "convert_jpeg", "quality": 85, "as": "hero"}]}]
```

Every leaf is a result; `"keep": true` makes an inner operation one as well, `"as"` names it.
`GET /operations` lists all operations with their parameters. Errors are `application/problem+json` (RFC 9457);
decide by their `code`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API; nothing is opened or read before its lifespan begins.

    Args:
        settings: default: from the environment.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.resources = await _start(settings or Settings(), stack)
            # What is loaded now stays: a full collection over it would stop the event loop for more than 100 ms
            gc.collect()
            gc.freeze()
            yield

    app = Api(
        title="PixTools",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # ours loads nothing from elsewhere
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        dependencies=[Depends(only_known_parameters)],
        servers=None,
        redirect_slashes=False,  # one address for each thing, and no `Location` made of the request's `Host`
        # ours are in the middleware; FastAPI's spans would hold the queries of download links, which sign them
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(BodyMiddleware)
    app.add_middleware(AdmissionMiddleware)
    app.add_middleware(RequestMiddleware)  # the outermost: what is refused is counted and logged as well
    problems.install(app)
    app.include_router(jobs.router)
    app.include_router(downloads.router)
    app.include_router(operations.router)
    app.include_router(webhooks.router)
    app.include_router(events.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(docs.router)
    return app


async def _start(settings: Settings, stack: AsyncExitStack) -> Resources:
    """Start everything that runs beside the requests; the stack stops it in reverse order."""
    celery_app.use(settings)
    configure_logging(settings.log_level)
    private.keep_new_files_private()
    if settings.embedded:
        if private.is_open(settings.data_dir):
            log.warning("data_folder_open", extra={"hint": f"others may look into it: chmod 700 {settings.data_dir}"})
        stack.enter_context(only_process(settings.data_dir))
        await anyio.to_thread.run_sync(upgrade, settings.database)
    stack.push_async_callback(_stop, tracing.start(settings.otlp_endpoint, "api"))
    drain.reset()
    resources = Resources(settings, drain.is_over)
    resources.database.hooks.ended = resources.waiters.tell
    stack.push_async_callback(resources.aclose)
    stack.enter_context(_on_stop_signals(resources.stopping))
    if settings.embedded:
        await _start_workers(resources, stack)
    for service in background.services(resources):
        service.start()
        stack.push_async_callback(_stop, service.stop)
    return resources


async def _start_workers(resources: Resources, stack: AsyncExitStack) -> None:
    settings = resources.settings
    resources.check_network()
    await anyio.to_thread.run_sync(_clear, settings.spool)
    runtime.use(resources)
    threads = {
        Queue.DEFAULT: settings.worker_concurrency,
        Queue.SMALL: 1,
        Queue.ML: 1,
        Queue.WEBHOOK: settings.webhook_concurrency,
    }
    for queue, concurrency in threads.items():
        worker = LocalWorker(queue, concurrency)
        await anyio.to_thread.run_sync(worker.start)
        resources.local_workers[queue] = worker.is_alive
        stack.push_async_callback(_stop, worker.stop)
    stack.callback(drain.begin, 0)  # tasks that run now are handed back, and start again with the next process
    resumed = await resources.database.call(resume_all)
    told = await resources.database.call(deliveries.resume)
    repeated = await resources.database.call(replays.resume)
    if resumed or told or repeated:
        log.info("work_resumed", extra={"jobs": resumed, "webhook_deliveries": told, "webhook_replays": repeated})


def _clear(spool: Path) -> None:
    """Remove what a process that was killed has left: copies of uploads."""
    for folder in spool.glob(f"{TASK_FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_stop_signals(stopping: threading.Event) -> Iterator[None]:
    """Learn that the process has to stop before its server does: that one waits for every request first."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signals
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        if not stopping.is_set():  # a second signal may come while the first one holds the lock of the event
            stopping.set()
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    taken = [number for number, handler in previous.items() if callable(handler)]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, previous[number])


async def _stop(stop: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(stop)  # joining a thread would block the event loop


@contextmanager
def only_process(data_dir: Path) -> Iterator[None]:
    """Keep the data folder to one process: the jobs of another one would look abandoned.

    Raises:
        CannotStart: the folder is in use, or cannot be used.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "lock").open("w")
    except OSError as error:
        raise CannotStart(
            f"The data folder {data_dir} cannot be used: {error.strerror}; choose another one by PIXTOOLS_DATA_DIR."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"The data folder {data_dir} is in use by another PixTools process; "
                "stop it, or choose another folder by PIXTOOLS_DATA_DIR."
            ) from None
        yield


app = create_app()
