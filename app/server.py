"""Serves the API by uvicorn with limits on connections: alone, or with everything else in the same process."""

import logging
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from app import migrations
from app.config import LOOPBACK_HOSTS, Settings
from app.connections import ConnectionLimits, Connections
from app.database import Database
from app.database_errors import DATABASE_ERRORS, is_away
from app.embedded import only_process
from app.errors import CannotStart
from app.logging_config import configure_logging
from app.main import app
from app.services.access import keys
from app.wiring import Resources

log = logging.getLogger(__name__)

GRACE_SECONDS = 10  # time for requests in flight when the process has to end; clients may keep theirs open longer
OWN_DESCRIPTORS = 64  # descriptors for databases, brokers, files and pixel processes
STARTUP_FAILURE = 3  # exit code
EACH_CONNECTION = 2  # descriptors: its socket, and the file that it sends or gets
SAMPLE = Path(__file__).parent / "static" / "page" / "sample.jpg"


def serve(settings: Settings) -> None:
    """Serve everything from this one process until SIGTERM or SIGINT."""
    if not settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names a broker: run `pixtools api` and `pixtools worker` instead.")
    _refuse_in_a_line(_check_files, settings)
    _refuse_in_a_line(_check_port, settings)
    print(_greeting(settings), flush=True)  # noqa: T201
    _run(settings)


def _greeting(settings: Settings) -> str:
    """The message at the start: the address of the web page, and a command to try."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    sample = SAMPLE.relative_to(Path.cwd()) if SAMPLE.is_relative_to(Path.cwd()) else SAMPLE
    return (
        f"PixTools is starting on {address}: the page, /help, /docs. Data in {settings.data_dir}. Ctrl-C stops it.\n"
        "Open that address, or try in another terminal:\n"
        f"  curl {address}/process -H 'Prefer: wait=30' -F file=@{sample} -F 'operations=[\"convert_webp\"]'"
    )


def serve_api(settings: Settings) -> None:
    """Serve the API; with a memory:// broker its lifespan also runs the workers."""
    _refuse_in_a_line(_check_keyring, settings)
    _refuse_in_a_line(_check_access, settings)
    _refuse_in_a_line(_check_port, settings)
    _run(settings)


def _refuse_in_a_line(check: Callable[[Settings], None], settings: Settings) -> None:
    """Exit with a message of one line if a check fails."""
    try:
        check(settings)
    except CannotStart as error:
        raise SystemExit(error.message) from None


def _check_files(settings: Settings) -> None:
    """Check the files before the server starts, which would check them too, but log a traceback."""
    with only_process(settings.data_dir):
        migrations.check(settings.database)
        Resources(settings).check_network()
        _check_access(settings)


def _check_port(settings: Settings) -> None:
    """Refuse to start if the server cannot listen on its port.

    Raises:
        CannotStart: the port is in use, or this user may not use it.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        raise CannotStart(
            f"Port {settings.port} of {settings.host} cannot be used ({os.strerror(error.errno or 0)}): "
            "stop the process that listens there, or choose another port with PIXTOOLS_PORT."
        ) from None


def _check_keyring(settings: Settings) -> None:
    Resources(settings).check_keyring()


def _check_access(settings: Settings) -> None:
    """Refuse to start a server without keys that other machines could reach.

    Raises:
        CannotStart: the message says what to do.
    """
    if settings.metrics_port == settings.port:
        raise CannotStart("PIXTOOLS_METRICS_PORT is the API's own port, PIXTOOLS_PORT: choose another one.")
    if settings.open_access or settings.host in LOOPBACK_HOSTS or _may_have_keys(settings):
        return
    raise CannotStart(
        f"PIXTOOLS_HOST={settings.host} lets other machines in, and there is no API key yet: make one with "
        "`pixtools keys create`, or set PIXTOOLS_OPEN_ACCESS=yes to let every client do everything."
    )


def _may_have_keys(settings: Settings) -> bool:
    """Whether a key may have been made. True if the database is away: until it is back, requests are refused anyway."""
    database = Database(settings.database)
    try:
        if database.is_sqlite and not Path(str(database.url().database)).exists():
            return False  # a query would create it
        with database.session(read_only=True) as session:
            return keys.ever_made(session)
    except DATABASE_ERRORS as error:
        return is_away(error)  # a database of an earlier version merely lacks the table
    finally:
        database.close()


def _run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logging(settings.log_level)
    app.state.settings = settings
    config = uvicorn.Config(
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
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run(_sockets(config, settings))
    if not server.started:
        raise SystemExit(STARTUP_FAILURE)


def _sockets(config: uvicorn.Config, settings: Settings) -> list[socket.socket] | None:
    """The sockets of the API and of the port for health and metrics; None: uvicorn opens its own."""
    if settings.metrics_port is None:
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        for_metrics = socket.create_server((settings.host, settings.metrics_port), family=family)
    except OSError as error:
        raise SystemExit(f"PIXTOOLS_METRICS_PORT={settings.metrics_port} cannot be used: {error.strerror}") from None
    return [config.bind_socket(), for_metrics]


def limits_of(settings: Settings) -> ConnectionLimits:
    """The limits on connections; their number is also limited by the file descriptors of this process."""
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
