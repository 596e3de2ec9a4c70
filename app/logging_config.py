"""Structured logs: one JSON object a line, or readable lines on a terminal.

Every line has the ids that `tracing` has bound where it is written. What nobody should read is cut out of every line,
whoever writes it: queries of URLs (they sign downloads, and receivers keep secrets in them), and passwords.
"""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

# Up to the next blank, since a URL may hold any other character
URL_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#]*)\?\S*", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*):[^\s/?#]+@", re.IGNORECASE)
SIGNATURE = re.compile(r"(\b(?:X-Amz-[A-Za-z-]+|signature)=)[^\s&]+", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """The same without what nobody should read."""
    if isinstance(value, str):
        return _redacted_text(value)
    if isinstance(value, dict):
        return {key: redacted(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(member) for member in value]
    return value if value is None or isinstance(value, int | float) else _redacted_text(str(value))


def _redacted_text(text: str) -> str:
    if "://" in text:
        text = URL_PASSWORD.sub(r"\1:…@", URL_QUERY.sub(r"\1?…", text))
    return SIGNATURE.sub(r"\1…", text) if "=" in text else text


def _without_colours(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's line again, for terminals
    return event


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {name: redacted(value) for name, value in event.items()}


SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_colours,
)
# A line for each request, connection or message says nothing that this service's own lines do not say better
QUIET = (
    *("httpx", "httpcore", "alembic", "kombu", "amqp", "urllib3"),
    *("celery.worker.strategy", "celery.app.trace"),
)


def configure_logging(level: str = "INFO") -> None:
    """Set the root logger up; everything that logs by the standard library takes part."""
    console = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact, renderer],
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
    # `uvicorn app.main:app` has an access log of its own, which would hold the signatures of download links
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
