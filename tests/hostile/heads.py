"""Odd request lines, headers, bodies in chunks, and methods."""

from collections.abc import Iterator

from tests.hostile.wire import Hostile, form, request, upload

METHODS = ["TRACE", "TRACK", "CONNECT", "OPTIONS", "PROPFIND", "PURGE", "PUT", "BREW", "get", "GÉT", "X" * 500, "PATCH"]
PATHS = ["/", "/process", "/jobs", "/events", "/metrics", "/nowhere"]
HOSTS = [
    *(None, b"", b" ", b"example.invalid", b"127.0.0.1:99999", b"[::1", b"a" * 60_000, b"127.0.0.1, 127.0.0.2"),
    *(b"http://127.0.0.1/", b"\xff\xfe", b"127.0.0.1/../", b"x@127.0.0.1", b"127.0.0.1\tx", b"<script>", b"%00", b"[fe80::1%25lo]"),
]  # fmt: skip
TARGETS = [
    *("/%00", "/jobs/%00", "/jobs/%ff", "/jobs/..%2f..%2fetc", "//", "///jobs", "/jobs//", "/./jobs", "/jobs/../process"),
    *("/" + "a" * 50_000, "/jobs/" + "%41" * 2000, "http://127.0.0.1/jobs", "*", "jobs", "", "/jobs?" + "a=1&" * 2000),
    *("/jobs#x", "/jobs;x=1", "/jobs/%u0041", "/jobs/%", "/jobs/%zz", "/docs/../../x", "/openapi.json/", "/\\..\\x"),
]  # fmt: skip
CHUNKS = {
    "size is not a number": b"zz\r\nabc\r\n0\r\n\r\n",
    "size is negative": b"-5\r\nabc\r\n0\r\n\r\n",
    "size is huge": b"ffffffffffffffffff\r\nabc",
    "no end": b"5\r\nhello\r\n",
    "an extension": b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers": b"0\r\n" + b"a: b\r\n" * 3000 + b"\r\n",
    "short": b"9\r\nhello\r\n0\r\n\r\n",
    "line feeds": b"5\nhello\n0\n\n",
}
UNFINISHED = ("nothing", "http 0.9", "blank lines", "half a line", "half a head")
HEADERS: dict[str, list[tuple[str, str | bytes]]] = {
    "a thousand": [(f"X-{number}", "1") for number in range(1000)],
    "long": [("X-Long", "a" * 100_000)],
    "long name": [("X" * 70_000, "1")],
    "control characters": [("X", b"a\x00b\x01")],
    "a bare return": [("X", b"a\rb: c")],
    "folded": [("X", b"a\r\n b")],
    "a space before the colon": [("X ", "1")],
    "no name": [("", "1")],
    "bytes": [("X", bytes(range(128, 256)))],
    "cookies": [("Cookie", "a=b; " * 5000)],
    "request id": [("X-Request-ID", b"\xff" * 300)],
    "request id with a line": [("X-Request-ID", "a%0d%0ab")],
    "trace": [("traceparent", "00-" + "z" * 100), ("tracestate", "a" * 10_000)],
    "trace of bytes": [("traceparent", b"\xff\x00"[:1])],
    "two lengths": [("Content-Length", "5"), ("Content-Length", "6")],
    "length of no number": [("Content-Length", "five")],
    "length negative": [("Content-Length", "-1")],
    "length signed": [("Content-Length", "+5")],
    "length huge": [("Content-Length", "9" * 30)],
    "length and chunks": [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
    "an unknown coding": [("Transfer-Encoding", "gzip, chunked")],
    "chunks last": [("Transfer-Encoding", "chunked, identity")],
    "expect": [("Expect", "100-continue")],
    "expect more": [("Expect", "200-ok")],
    "websocket": [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "x")],
    "h2c": [("Upgrade", "h2c"), ("HTTP2-Settings", "x")],
    "forwarded": [("X-Forwarded-For", "a" * 5000), ("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Host", "\\")],
    "accept": [("Accept", ",;q=x" * 2000)],
    "accept of bytes": [("Accept", b"\xff")],
    "encoding": [("Accept-Encoding", "*;q=0")],
    "authorization": [("Authorization", "Bearer " + "x" * 20_000)],
    "range": [("Range", "bytes=" + "0-0," * 5000)],
    "if-none-match": [("If-None-Match", '"' * 9000)],
    "method override": [("X-HTTP-Method-Override", "DELETE")],
}


def lines() -> Iterator[Hostile]:
    """Methods, hosts and targets."""
    for method in METHODS:
        for path in PATHS:
            yield Hostile(f"{method[:12]} {path}", request(method, path))
    for host in HOSTS:
        yield Hostile(f"host {host!r:.30}", request("GET", "/jobs", host=host))
    for target in TARGETS:
        yield Hostile(f"target {target[:30]}", request("GET", target))
    yield Hostile("two hosts", request("GET", "/jobs", [("Host", "a")]))


def headers(image: bytes) -> Iterator[Hostile]:
    """Headers of two requests each, chunks, and what is not HTTP at all."""
    for name, fields in HEADERS.items():
        yield Hostile(name, request("GET", "/jobs", fields))
        yield Hostile(f"{name}, posted", form(upload(image)).replace(b"\r\n", _lines(fields), 1))
    chunked = [("Transfer-Encoding", "chunked"), ("Content-Type", "multipart/form-data; boundary=BB")]
    for name, body in CHUNKS.items():
        raw = request("POST", "/process", chunked, body, length=False)
        yield Hostile(f"chunks: {name}", raw, whole=name != "no end")
    for name, raw in {
        "nothing": b"",
        "http 0.9": b"GET /jobs\r\n",
        "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "http 9": b"GET / HTTP/9.9\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "zeros": b"\0" * 5000,
        "blank lines": b"\r\n" * 5000,
        "half a line": b"GET /jo",
        "half a head": b"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "smuggled": b"GET /jobs HTTP/1.1\r\nHost: a\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "ssh": b"SSH-2.0-x\r\n",
    }.items():
        yield Hostile(name, raw, whole=name not in UNFINISHED)


def _lines(fields: list[tuple[str, str | bytes]]) -> bytes:
    raw = [name.encode() + b": " + (value.encode() if isinstance(value, str) else value) for name, value in fields]
    return b"\r\n" + b"\r\n".join(raw) + b"\r\n"
