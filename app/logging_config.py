"""Structured logs: one JSON object per line, or readable lines on a terminal.

Every line has the ids that `tracing` has bound in its context. Secrets are removed from every line: passwords, and
queries of URLs, which may contain signatures of download links or secrets of webhook receivers.
"""

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.contextvars import get_contextvars
from structlog.typing import EventDict

from app.moments import in_utc

# Up to the next blank, since a URL may hold any other character
URL_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#]*)\?\S*", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/?#@]*):[^\s/?#]+@", re.IGNORECASE)
SIGNATURE = re.compile(r"(\b(?:X-Amz-[A-Za-z-]+|signature)=)[^\s&]+", re.IGNORECASE)

# attributes that logging sets itself, and `color_message`, uvicorn's copy of the message for terminals
OF_EVERY_RECORD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName", "color_message"}


def redacted(value: Any) -> Any:
    """The text without secrets."""
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


class _LineFormatter(logging.Formatter):
    """Formats a record as one line: its event, the bound ids, and its own fields.

    structlog's own formatter does the same with a copy of the record and a chain of processors, but takes twice as
    long. That matters for the access log, which has a line per request.
    """

    def __init__(self, render: Callable[[EventDict], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in record.__dict__.items() if name not in OF_EVERY_RECORD}
        event = {"event": record.getMessage(), **get_contextvars(), **fields, **self._of_record(record)}
        return self._render({name: redacted(value) for name, value in event.items()})

    def _of_record(self, record: logging.LogRecord) -> EventDict:
        moment = in_utc(datetime.fromtimestamp(record.created, UTC))
        fields = {"level": record.levelname.lower(), "logger": record.name, "timestamp": moment}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return fields


_console = structlog.dev.ConsoleRenderer()
_encode = json.JSONEncoder().encode  # shared by all lines; after redaction, values are plain


def _for_people(event: EventDict) -> str:
    return str(_console(None, "", event))


# loggers with a line for each request, connection or message, which this service's own lines already cover
QUIET = (
    *("httpx", "httpcore", "alembic", "kombu", "amqp", "urllib3"),
    *("celery.worker.strategy", "celery.app.trace"),
)


def configure_logging(level: str = "INFO") -> None:
    """Set up the root logger, for all code that logs with the standard library."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(_for_people if sys.stderr.isatty() else _encode))
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
