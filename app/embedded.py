"""The single process: API, worker, relay and reconciler together; nothing else is needed."""

import uvicorn

from app.config import Settings
from app.http_protocol import SmallReadsProtocol
from app.main import create_app


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    if not settings.embedded:
        raise SystemExit("PIXTOOLS_BROKER_URL names a broker: run `pixtools api` and `pixtools worker` instead.")
    run_api(settings)


def run_api(settings: Settings) -> None:
    """Serve the API; with memory:// as broker its lifespan runs the worker as well."""
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=SmallReadsProtocol,  # type: ignore[arg-type]  # asks for Protocol, takes any kind
        log_config=None,
        access_log=False,
    )
