"""The request, job and trace of any work: on every log line, in every message and, if configured, as spans.

Without `start` there are no spans, and incoming traces are only passed on.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

REQUEST_ID, JOB_ID, TASK, TRACE_ID = "request_id", "job_id", "task", "trace_id"  # fields of log lines
CARRIED = (REQUEST_ID, JOB_ID)
TRACEPARENT = "traceparent"  # the standard's name
EXPORT_SECONDS = 1.0  # longest time that a span waits to be exported in a batch
EXPORT_TIMEOUT = 5.0  # seconds; also how long the end of a process may wait for a collector that is away

_exporting: list[object] = []  # empty: tracing is off
_tracer = trace.get_tracer("pixtools")
_w3c = TraceContextTextMapPropagator()

bind, bound, forget = bind_contextvars, bound_contextvars, clear_contextvars


def start(endpoint: str | None, service: str) -> Callable[[], None]:
    """Start sending spans to a collector; to be called after a fork.

    Args:
        endpoint: base URL of OTLP over HTTP; None: there are no spans.
        service: name of this part of PixTools.

    Returns:
        A function that sends the remaining spans, to be called at the end of the process.
    """
    if not endpoint:
        return lambda: None
    # Of the extra `tracing`; they take half a second and 15 MB
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    instance = f"{socket.gethostname()}-{os.getpid()}"
    resource = Resource.create({"service.name": f"pixtools-{service}", "service.instance.id": instance})
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_TIMEOUT)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_SECONDS * 1000))
    trace.set_tracer_provider(provider)
    _exporting.append(provider)
    return provider.shutdown


def carrier() -> dict[str, str]:
    """The context to send with a message, so that its work belongs to this request and trace."""
    carried = outgoing()
    known = get_contextvars()
    carried.update((name, known[name]) for name in CARRIED if name in known)
    return carried


def outgoing() -> dict[str, str]:
    """The tracing headers of an outgoing request."""
    headers: dict[str, str] = {}
    _w3c.inject(headers)
    return headers


@contextmanager
def continued(carried: Mapping[str, str], name: str, kind: SpanKind, **attributes: str) -> Iterator[Span]:
    """Continue the context from `carrier`: a span in its trace, and its ids on every log line."""
    parent = _parent(carried)
    ids = {name: carried[name] for name in CARRIED if carried.get(name)}
    with _current(name, kind, attributes, parent) as span, bound_contextvars(**ids, **_trace_id(span)):
        yield span


def adopt(carried: Mapping[str, str] | None) -> None:
    """Bind the ids of an earlier request if none is bound, for work without its own request, e.g. after a crash."""
    known = get_contextvars()
    bind_contextvars(**{name: carried[name] for name in CARRIED if carried and name in carried and name not in known})


@contextmanager
def request(request_id: str, headers: Mapping[str, str], name: str) -> Iterator[Span]:
    """Start a request in the trace of its sender; its ids are on all log lines of this context."""
    clear_contextvars()
    with _current(name, SpanKind.SERVER, {}, _parent(headers)) as span:
        bind_contextvars(**{REQUEST_ID: request_id}, **_trace_id(span))
        yield span


@contextmanager
def _current(name: str, kind: SpanKind, attributes: Mapping[str, str], parent: Context | None = None) -> Iterator[Span]:
    if not _exporting:  # no span is created, but the incoming context is passed on
        with _attached(parent):
            yield trace.get_current_span()
        return
    with _tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        record_exception=False,  # its text may contain secrets: URLs, parameters of a statement
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            fail(span, type(error).__name__)
            raise


@contextmanager
def _attached(parent: Context | None) -> Iterator[None]:
    if parent is None:
        yield
        return
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)


def _parent(carried: Mapping[str, str]) -> Context | None:
    return _w3c.extract(carried) if TRACEPARENT in carried else None


def span(name: str, **attributes: str) -> AbstractContextManager[Span]:
    """A span for a part of this process's work."""
    return _current(name, SpanKind.INTERNAL, attributes)


def fail(failed: Span, kind: str) -> None:
    """Mark a span as failed."""
    failed.set_attribute("error.type", kind)
    failed.set_status(StatusCode.ERROR)


def _trace_id(current: Span) -> dict[str, str]:
    ids = current.get_span_context()
    return {TRACE_ID: f"{ids.trace_id:032x}"} if ids.is_valid else {}
