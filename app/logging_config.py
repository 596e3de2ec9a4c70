"""Structured logs: one JSON object a line, or readable lines on a terminal."""

import logging
import sys

import structlog
from structlog.typing import EventDict


def _without_colours(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's line again, for terminals
    return event


SHARED = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_colours,
)
# A line for each request, connection or message says nothing that this service's own lines do not say better
QUIET = ("httpx", "httpcore", "alembic", "kombu", "amqp", "celery.worker.strategy", "celery.app.trace")


def configure_logging(level: str = "INFO") -> None:
    """Set the root logger up; everything that logs by the standard library takes part."""
    console = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)  # warns of each memory:// URL, which has no host
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
