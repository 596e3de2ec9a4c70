"""The API: `create_app()` and its lifespan. `uvicorn app.main:app` serves it."""

import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import FrameType

import anyio.to_thread
from fastapi import FastAPI

from app import __version__, background, embedded, private, problems, tracing
from app.admission import AdmissionMiddleware
from app.bodies import BodyMiddleware
from app.config import Settings
from app.logging_config import configure_logging
from app.middleware import RequestMiddleware
from app.migrations import upgrade
from app.routers import (
    accounts,
    assets,
    docs,
    downloads,
    events,
    health,
    jobs,
    keys,
    letters,
    metrics,
    operations,
    plans,
    stores,
    streams,
    templates,
    webhooks,
)
from app.routers.access import check_declared
from app.routers.document import TAGS, Api, operation_id
from app.routers.site import SITE
from app.tasks import celery_app, drain
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


ROUTERS = tuple(
    part.router
    for part in (
        jobs,
        plans,
        downloads,
        operations,
        stores,
        templates,
        assets,
        webhooks,
        events,
        streams,
        keys,
        accounts,
        health,
        letters,
        metrics,
        docs,
    )
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the API; nothing is opened or read before its lifespan begins.

    Args:
        settings: the settings, which become `app.state.settings`; default: read from the environment.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.resources = await _start(app.state.settings or Settings(), stack)
            # What is loaded now stays: a full collection over it would stop the event loop for more than 100 ms
            gc.collect()
            gc.freeze()
            yield

    app = Api(
        title="PixTools",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # replaced by our own page, which loads nothing from other servers
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        servers=None,
        redirect_slashes=False,  # each resource has one URL, and no `Location` depends on the request's `Host`
        # our own spans are in the middleware; FastAPI's would contain the signatures of download links
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.add_middleware(BodyMiddleware)
    app.add_middleware(AdmissionMiddleware)
    app.add_middleware(RequestMiddleware)  # the outermost: what is refused is counted and logged as well
    problems.install(app)
    for router in (*ROUTERS, *SITE):
        app.include_router(check_declared(router))
    return app


async def _start(settings: Settings, stack: AsyncExitStack) -> Resources:
    """Start everything that runs in the background; the stack stops it in reverse order."""
    celery_app.use(settings)
    configure_logging(settings.log_level)
    private.keep_new_files_private()
    if settings.embedded:
        if private.is_open(settings.data_dir):
            log.warning("data_folder_open", extra={"hint": f"others may look into it: chmod 700 {settings.data_dir}"})
        stack.enter_context(embedded.only_process(settings.data_dir))
        await anyio.to_thread.run_sync(upgrade, settings.database)
    stack.push_async_callback(_stop, tracing.start(settings.otlp_endpoint, "api"))
    drain.reset()
    resources = Resources(settings, drain.is_over)
    resources.database.hooks.ended = resources.note_end
    resources.check_keyring()  # an API that cannot encrypt a secret does not start
    stack.push_async_callback(resources.aclose)
    stack.enter_context(_on_stop_signals(resources.stopping))
    if settings.embedded:
        await embedded.start_workers(resources, stack)
    for service in (*background.services(resources), resources.refusals):
        service.start()
        stack.push_async_callback(_stop, service.stop)
    return resources


@contextmanager
def _on_stop_signals(stopping: threading.Event) -> Iterator[None]:
    """Set `stopping` on SIGTERM and SIGINT, before the server reacts: it first waits for all requests to end."""
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


app = create_app()
