"""What log lines say, and what they never say."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from app.logging_config import configure_logging, redacted

Written = Callable[[], list[dict[str, object]]]
SECRET = "s3cr3t-V4lue"


@pytest.fixture
def written() -> Iterator[Written]:
    """The lines that were logged until it is called."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    configure_logging("DEBUG")
    stream = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers = before
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"http://host/hook?token={SECRET}", "http://host/hook?…"),
        (f"HTTPS://Host:8/a/b?x=1&token={SECRET}#f then", "HTTPS://Host:8/a/b?… then"),
        (f'http://host/?a="{SECRET}"', "http://host/?…"),
        (f"http://host/?a='{SECRET}<>\\{SECRET}", "http://host/?…"),
        (f"https://bucket.s3/key?X-Amz-Credential=A&X-Amz-Signature={SECRET}", "https://bucket.s3/key?…"),
        (f"GET /jobs/1/results/a?expires=1&signature={SECRET}", "GET /jobs/1/results/a?expires=1&signature=…"),
        (f"postgresql+psycopg://user:{SECRET}@db:5432/name", "postgresql+psycopg://user:…@db:5432/name"),
        (f"amqp://user:{SECRET}@broker//: refused", "amqp://user:…@broker//: refused"),
        (f"redis://:{SECRET}@redis/0", "redis://:…@redis/0"),
        ("http://host/path and a=b?", "http://host/path and a=b?"),
        ("3.5 MB? yes: 1/2", "3.5 MB? yes: 1/2"),
    ],
)
def test_what_nobody_should_read_is_cut_out(text: str, left: str) -> None:
    assert redacted(text) == left
    assert redacted({"a": [text, {"b": (text,)}]}) == {"a": [left, {"b": [left]}]}


def test_redaction_holds_in_every_part_of_a_line(written: Written) -> None:
    url = f"http://host/hook?token={SECRET}"
    log = logging.getLogger("somebody.else")
    log.warning("sent to %s", url, extra={"url": url, "nested": {"list": [url]}, "object": ValueError(url)})
    try:
        raise ValueError(url)  # noqa: TRY301
    except ValueError:
        log.exception("failed")
    text = json.dumps(written())
    assert SECRET not in text
    assert "http://host/hook?" in text
    assert len(written()) == 2


def test_the_bound_ids_are_on_every_line_and_the_line_wins(written: Written) -> None:
    structlog.contextvars.bind_contextvars(request_id="r", job_id="j")
    logging.getLogger("app").info("event", extra={"job_id": "other", "number": 1})
    (line,) = written()
    assert line["event"] == "event"
    assert (line["request_id"], line["job_id"], line["number"]) == ("r", "other", 1)
    assert {"level", "logger", "timestamp"} <= set(line)


def test_warnings_uvicorn_and_celery_write_json() -> None:
    code = """
import logging, warnings
from app.logging_config import configure_logging
configure_logging()
warnings.warn("careful")
logging.getLogger("uvicorn.error").info("up")
logging.getLogger("uvicorn.access").info("GET /x?signature=1")
logging.getLogger("celery.worker").error("gone")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loggers = [json.loads(line)["logger"] for line in done.stderr.splitlines()]
    assert loggers == ["py.warnings", "uvicorn.error", "celery.worker"]
