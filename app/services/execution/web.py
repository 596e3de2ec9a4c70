"""Fetches files from the web. No request goes to a forbidden address, wherever redirects lead.

There are limits for redirects, each of which is checked like the first URL, for the total time, and for bytes. Servers
are asked not to compress the response, and a compressed response is refused, so nothing is ever decompressed.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLCertVerificationError, SSLError
from typing import BinaryIO
from urllib.parse import urldefrag, urljoin

import httpcore

from app.errors import (
    SourceBusy,
    SourceDenied,
    SourceFailed,
    SourceNotFound,
    SourceUnavailable,
    SourceUnusable,
    UploadTooLarge,
)
from app.services.sources import UrlSource
from app.services.webhooks.breakers import HostPaused
from app.services.webhooks.egress import Egress, origin_of
from app.services.webhooks.host_limits import HostLimits

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MISSING = frozenset({404, 410})
DENIED = frozenset({401, 403, 407})
TRY_LATER = frozenset({408, 425, 429})
OWN_HEADERS = {"User-Agent": "PixTools", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
LOOK_SECONDS = 0.5  # interval of checks whether the file is still wanted
BROKEN = (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
EXPLANATIONS: dict[type[Exception], str] = {
    httpcore.ProtocolError: "its answer is not HTTP, or ends early",
    httpcore.ConnectError: "it refuses the connection",
    httpcore.NetworkError: "the connection broke",
    httpcore.TimeoutException: "it does not answer in time",
    TimeoutError: "it does not answer in time",
    Exception: "its name does not resolve",
}


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """The limits of one fetch."""

    bytes: int
    #: time-out of the whole fetch, from the DNS lookup to the last byte
    seconds: float
    redirects: int


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file that has been fetched."""

    size: int
    sha256: str
    #: the source's `ETag`
    etag: str | None = None


@dataclass
class Sink:
    """A file that is being written, up to a size limit."""

    file: BinaryIO
    limit: int
    #: the announced size
    expected: int | None = None
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def share(self) -> float | None:
        return min(1.0, self.size / self.expected) if self.expected else None

    def expect(self, size: int) -> None:
        """Note the announced size, and refuse a file that is too large before it arrives.

        Raises:
            UploadTooLarge: the announced size exceeds the limit.
        """
        if size > self.limit:
            raise too_large(self.limit, size)
        self.expected = size

    def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            UploadTooLarge: the file exceeds the limit.
        """
        self.size += len(data)
        if self.size > self.limit:
            raise too_large(self.limit, self.size)
        self.file.write(data)
        self.digest.update(data)

    def fetched(self, etag: str | None) -> Fetched:
        return Fetched(size=self.size, sha256=self.digest.hexdigest(), etag=etag)


def too_large(limit: int, value: int) -> UploadTooLarge:
    """The error for a file that exceeds the limit on uploads, in bytes."""
    return UploadTooLarge(f"The input is larger than {limit} bytes.", limit=limit, value=value)


class _Moved(Exception):
    """The server has answered with a redirect."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


@dataclass(frozen=True, kw_only=True)
class WebClient:
    """Fetches files from URLs."""

    egress: Egress
    host_limits: HostLimits
    limits: FetchLimits

    def fetch(self, source: UrlSource, path: Path, look: Callable[[float | None], None]) -> Fetched:
        """Fetch a URL into a file, following redirects.

        Args:
            source: the URL, and headers that are sent only to its origin.
            path: path of the file.
            look: called at intervals with the share that has arrived; an exception from it ends the fetch.

        Raises:
            SourceFailed: the file does not exist or cannot be read now.
            InvalidSourceUrl: the URL, or one that it redirects to, is refused.
            UploadTooLarge: the file exceeds the limit on uploads.
            OSError: the file cannot be written.
        """
        deadline = time.monotonic() + self.limits.seconds
        url, headers = source.url, source.headers
        for _ in range(self.limits.redirects + 1):
            try:
                return self._one(url, headers, path, look, deadline)
            except _Moved as moved:
                headers = headers if origin_of(moved.url) == origin_of(url) else {}
                url = moved.url
        raise SourceUnusable(f"The URL of the input redirects more than {self.limits.redirects} times.")

    def _one(
        self,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        look: Callable[[float | None], None],
        deadline: float,
    ) -> Fetched:
        """Send one request, using one of the slots of its host."""
        try:
            with self.host_limits.one(origin_of(url)), path.open("wb") as file:
                sink = Sink(file, self.limits.bytes)
                return asyncio.run(self._watched(url, headers, sink, look, deadline))
        except HostPaused as paused:
            raise SourceBusy(retry_after=max(1, round(paused.seconds))) from None

    async def _watched(
        self,
        url: str,
        headers: Mapping[str, str],
        sink: Sink,
        look: Callable[[float | None], None],
        deadline: float,
    ) -> Fetched:
        running = asyncio.ensure_future(self._download(url, headers, sink, deadline))
        try:
            while not (await asyncio.wait({running}, timeout=LOOK_SECONDS))[0]:
                look(sink.share)
        except BaseException:
            running.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await running
            raise
        return running.result()

    async def _download(self, url: str, headers: Mapping[str, str], sink: Sink, deadline: float) -> Fetched:
        asked = {**headers, **{name: value for name, value in OWN_HEADERS.items() if not _has(headers, name)}}
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self.egress.open("GET", url, asked) as response:
                answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                _check(url, response.status, answered)
                await _read(response, answered, sink)
        except (_Moved, SourceFailed, UploadTooLarge):
            raise
        except _SinkFailed as error:
            raise error.cause from None
        except BROKEN as error:
            raise self._unavailable(error) from None
        return sink.fetched(answered.get("etag"))

    def _unavailable(self, error: Exception) -> SourceFailed:
        cause = error.args[0] if error.args else None  # httpcore keeps the cause there
        if isinstance(cause, SSLCertVerificationError):
            return SourceUnusable(
                f"The certificate of the server that has the input is not valid: {cause.verify_message}."
            )
        if isinstance(error, TimeoutError):
            return SourceUnavailable(f"The input has not come within {self.limits.seconds:g} s.")
        why = "TLS fails" if isinstance(cause, SSLError) else _explain(error)
        return SourceUnavailable(f"The server that has the input does not answer as it should: {why}.")


class _SinkFailed(Exception):
    """The local disk has failed, not the server."""

    def __init__(self, cause: OSError) -> None:
        super().__init__()
        self.cause = cause


def _explain(error: Exception) -> str:
    """A description of a failure for clients, without text from exceptions of other libraries."""
    return next(words for kind, words in EXPLANATIONS.items() if isinstance(error, kind))


def _has(headers: Mapping[str, str], name: str) -> bool:
    return name.lower() in {given.lower() for given in headers}


def _check(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise unless a response contains the file itself."""
    if status in REDIRECTS:
        raise _Moved(_target(url, headers.get("location")))
    if status in MISSING:
        raise SourceNotFound(f"There is no file at the URL of the input: it answers {status}.")
    if status in DENIED:
        raise SourceDenied(f"The URL of the input denies access to its file: it answers {status}.")
    if status >= 500 or status in TRY_LATER:
        detail = f"The server that has the input answers {status}."
        raise SourceUnavailable(detail, retry_after=_seconds(headers.get("retry-after")))
    if status != 200:
        raise SourceUnusable(f"The URL of the input gives no file: it answers {status}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise SourceUnusable(
            f"The server that has the input compresses it ({encoding[:32]}) although asked not to; send it as it is."
        )


def _target(url: str, location: str | None) -> str:
    try:
        return urldefrag(urljoin(url, (location or "").strip())).url
    except ValueError:
        return ""


def _seconds(value: str | None) -> int | None:
    """The seconds in a `Retry-After` header; None for a date, which is not worth parsing."""
    value = (value or "").strip()
    return int(value[:9]) if value.isascii() and value.isdecimal() else None


async def _read(response: httpcore.Response, headers: Mapping[str, str], sink: Sink) -> None:
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdecimal():
        sink.expect(int(announced[:18]))
    async for piece in response.aiter_stream():
        try:
            sink.write(piece)
        except OSError as error:
            raise _SinkFailed(error) from None
