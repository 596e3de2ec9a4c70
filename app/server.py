"""How the API is served: uvicorn, with the limits of the settings on connections and on what they send; alone, or with
everything else in the same process."""

import logging
import resource

import uvicorn
from starlette.types import ASGIApp

from app import migrations
from app.config import Settings
from app.connections import ConnectionLimits, Connections
from app.embedded import only_process
from app.errors import CannotStart
from app.logging_config import configure_logging
from app.main import create_app
from app.wiring import Resources

log = logging.getLogger(__name__)

GRACE_SECONDS = 10  # for requests in flight when the process is to end; clients may hold theirs open much longer
OWN_DESCRIPTORS = 64  # of databases, brokers, files and pixel processes
EACH_CONNECTION = 2  # descriptors: its socket, and the file that it sends or gets


def serve(settings: Settings) -> None:
    """Serve everything from this one process until SIGTERM or SIGINT."""
    if not settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names a broker: run `pixtools api` and `pixtools worker` instead.")
    _check(settings)
    address = f"http://{settings.host}:{settings.port}"
    print(f"PixTools on {address} (docs at /docs), data in {settings.data_dir}", flush=True)  # noqa: T201
    serve_api(settings)


def serve_api(settings: Settings) -> None:
    """Serve the API; with memory:// as broker its lifespan runs the worker as well."""
    run(create_app(settings), settings)


def _check(settings: Settings) -> None:
    """Say in one line what would make the start fail; the start checks again, within a server that logs tracebacks."""
    try:
        with only_process(settings.data_dir):
            migrations.check(settings.database)
            Resources(settings).check_network()
    except CannotStart as error:
        raise SystemExit(error.message) from None


def run(app: ASGIApp, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logging(settings.log_level)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=Connections(limits_of(settings)).protocol,  # type: ignore[arg-type]  # asks for a class, calls it
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]  # goes to `call_later`
        timeout_graceful_shutdown=GRACE_SECONDS,
        log_config=None,
        access_log=False,
    )


def limits_of(settings: Settings) -> ConnectionLimits:
    """The limits on connections; their number also fits the descriptors that this process may open."""
    return ConnectionLimits(
        head_bytes=settings.max_head_bytes,
        headers=settings.max_headers,
        head_seconds=settings.head_seconds,
        silence_seconds=settings.silence_seconds,
        connections=_affordable(settings.max_connections),
    )


def _affordable(connections: int) -> int:
    needed = EACH_CONNECTION * connections + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    affordable = max(1, (soft - OWN_DESCRIPTORS) // EACH_CONNECTION)
    log.warning("connections_limited", extra={"asked": connections, "limit": affordable, "descriptors": soft})
    return affordable
