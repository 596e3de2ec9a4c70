"""The single process: API, worker, relay and reconciler together; nothing else is needed."""

from app import migrations, server
from app.config import Settings
from app.errors import CannotStart
from app.main import create_app, only_process
from app.wiring import Resources


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    if not settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names a broker: run `pixtools api` and `pixtools worker` instead.")
    _check(settings)
    address = f"http://{settings.host}:{settings.port}"
    print(f"PixTools on {address} (docs at /docs), data in {settings.data_dir}", flush=True)  # noqa: T201
    run_api(settings)


def _check(settings: Settings) -> None:
    """Say in one line what would make the start fail; the start checks again, within a server that logs tracebacks."""
    try:
        with only_process(settings.data_dir):
            migrations.check(settings.database)
            Resources(settings).check_network()
    except CannotStart as error:
        raise SystemExit(error.message) from None


def run_api(settings: Settings) -> None:
    """Serve the API; with memory:// as broker its lifespan runs the worker as well."""
    server.run(create_app(settings), settings)
