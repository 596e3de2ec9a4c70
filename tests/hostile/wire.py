"""Requests as bytes, so that nothing on the way mends them."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

CRLF = b"\r\n"
BOUNDARY = b"BB"
PATIENCE = 20.0  # seconds for one answer
LONGEST = 10_000_000  # bytes of an answer that are read
SOON = 0.3  # seconds after which what is not whole is given up


@dataclass(frozen=True)
class Hostile:
    """One request."""

    name: str
    raw: bytes
    #: whether an answer must come, or the end; else the connection is closed soon, in the middle of the request
    whole: bool = True


@dataclass(frozen=True)
class Answered:
    """What came back; a status of 0: nothing."""

    status: int
    raw: bytes


def request(
    method: str,
    target: str | bytes,
    headers: Iterable[tuple[str, str | bytes]] = (),
    body: bytes = b"",
    *,
    host: bytes | None = b"127.0.0.1",
    length: bool = True,
) -> bytes:
    """A request of HTTP/1.1 after which the connection is closed."""
    target = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + target + b" HTTP/1.1", *([b"Host: " + host] if host is not None else [])]
    lines += [name.encode() + b": " + (value.encode() if isinstance(value, str) else value) for name, value in headers]
    lines += [b"Content-Length: %d" % len(body)] if body and length else []
    return CRLF.join([*lines, b"Connection: close", b"", body])


def form(body: bytes, *headers: tuple[str, str]) -> bytes:
    """A multipart form that is sent as an upload."""
    content_type = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY.decode()}")
    return request("POST", "/process", [content_type, *headers], body)


def part(disposition: bytes, content: bytes, *headers: bytes) -> bytes:
    """One part of a form."""
    return CRLF.join([b"--" + BOUNDARY, b"Content-Disposition: form-data; " + disposition, *headers, b"", content, b""])


def upload(image: bytes, operations: bytes = b'["convert_webp"]', filename: bytes = b'filename="a.png"') -> bytes:
    """The body of a form as it should be."""
    return part(b'name="file"; ' + filename, image) + part(b'name="operations"', operations) + b"--BB--\r\n"


def send(url: str, hostile: Hostile) -> Answered:
    """Send it and read until the end."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE) as connection:
        with suppress(OSError):  # it was refused before its end
            connection.sendall(hostile.raw)
        if hostile.whole:
            return _read(connection)
        connection.settimeout(SOON)
        with suppress(TimeoutError):
            return _read(connection)
        return Answered(0, b"")


def _read(connection: socket.socket) -> Answered:
    answer = b""
    with suppress(ConnectionError):  # reset, since not all that was sent has been read
        while len(answer) < LONGEST and (chunk := connection.recv(65_536)):
            answer += chunk
    if answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(CRLF * 2)[2]
    words = answer.split(b" ", 2)
    return Answered(int(words[1]) if answer.startswith(b"HTTP/") and words[1].isdigit() else 0, answer)
