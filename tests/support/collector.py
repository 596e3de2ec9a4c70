"""A collector of OpenTelemetry traces that receives OTLP over HTTP and keeps every span."""

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from .receiver import HttpServer


@dataclass(frozen=True)
class CollectedSpan:
    """A span, and the process that it is from."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    #: empty for the root span
    parent_id: str
    service: str
    instance: str
    attributes: dict[str, Any]
    failed: bool


class Collector:
    """Listens on a free port while its context is open."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HttpServer(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def _spans(request: ExportTraceServiceRequest) -> list[CollectedSpan]:
    found = []
    for resource in request.resource_spans:
        process = _attributes(resource.resource.attributes)
        found += [
            CollectedSpan(
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                service=process["service.name"],
                instance=process["service.instance.id"],
                attributes=_attributes(span.attributes),
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
            )
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return found


def _attributes(pairs: Any) -> dict[str, Any]:
    def plain(pair: KeyValue) -> Any:
        return getattr(pair.value, str(pair.value.WhichOneof("value")))

    return {pair.key: plain(pair) for pair in pairs}
