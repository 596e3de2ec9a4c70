"""Receiving a multipart form while it streams: limits hold on the way, and no file sits whole in memory."""

import asyncio
import hashlib
import logging
import re
import tempfile
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.errors import (
    FieldTooLong,
    InvalidFilename,
    InvalidRequest,
    MissingPart,
    RequestTimedOut,
    StoreUnavailable,
    TruncatedRequest,
    UnknownPart,
    UploadTooLarge,
)

log = logging.getLogger(__name__)

PARALLEL_WRITES = 8  # chunks of all uploads that are parsed and written at a time; the others wait as they came
INLINE_BYTES = 4_000_000  # of an upload that are written without a thread; pieces have 32 kB
MAX_FILENAME = 255  # characters; what file systems take
MAX_STEM = 100  # characters of a result's file name that come from the upload's
FORM_OVERHEAD = 16 * 1024  # bytes of part headers and boundaries beside the file and the fields
MAX_PARTS = 8
SILENCE_SECONDS = 30  # after which a client that sends nothing is given up
FORBIDDEN_IN_FILENAME = re.compile(r"[/\\\x00-\x1f\x7f]")
UNSAFE_IN_STEM = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, kw_only=True)
class FormLimits:
    """Bounds of a form; `fields` names every text field with its longest length in bytes."""

    file_bytes: int
    fields: dict[str, int]

    @property
    def body_bytes(self) -> int:
        return self.file_bytes + sum(self.fields.values()) + FORM_OVERHEAD


@dataclass(kw_only=True)
class ReceivedForm:
    """A complete form; close it to free the disk space of its file."""

    file: BinaryIO
    filename: str
    size: int
    sha256: str
    fields: dict[str, str]

    def close(self) -> None:
        self.file.close()


@dataclass
class _Spool:
    """An unnamed temporary file: it is gone with the process, however that ends."""

    file: BinaryIO
    size: int = 0
    _sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    async def write(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if self.size <= INLINE_BYTES:
            self._store(data)  # into the page cache: quicker than the way to a thread and back
        else:
            await asyncio.to_thread(self._store, data)  # a disk that cannot keep up would stop the event loop

    def _store(self, data: bytes | bytearray) -> None:
        self.file.write(data)
        self._sha256.update(data)

    def sha256(self) -> str:
        return self._sha256.hexdigest()


def boundary_of(content_type: str | None) -> str:
    """The boundary of a multipart form.

    Raises:
        InvalidRequest: the body is something else.
    """
    kind, options = parse_options_header(content_type or "")
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise InvalidRequest("Send the upload as multipart/form-data with the parts `file` and `operations`.")
    return str(boundary)


def check_content_length(content_length: str | None, limits: FormLimits) -> None:
    """Refuse by its announced length what is too large anyway, before reading any of it."""
    if content_length and content_length.isdigit() and int(content_length) > limits.body_bytes:
        raise _too_large(limits.file_bytes, int(content_length))


def _too_large(limit: int, value: int) -> UploadTooLarge:
    detail = f"The upload is larger than {limit} bytes."
    return UploadTooLarge(detail, pointer="#/file", limit=limit, value=value)


class Gate(asyncio.Semaphore):
    """Bounds the memory of uploads: a chunk exists in several copies only while it is parsed and written."""

    def __init__(self) -> None:
        super().__init__(PARALLEL_WRITES)


async def receive(
    body: AsyncIterator[bytes], boundary: str, limits: FormLimits, folder: Path, gate: Gate
) -> ReceivedForm:
    """Read a form with one `file` and text fields.

    Args:
        body: chunks of the request body.
        boundary: of the multipart form.
        limits: what it may hold.
        folder: where the file is spooled.
        gate: shared by all uploads of the process.

    Raises:
        PixToolsError: the form is refused; nothing is left on disk.
    """
    try:
        file = await asyncio.to_thread(_temporary_file, folder)
    except OSError as error:
        raise _no_room(error) from None
    try:
        return await _Reception(_Spool(file), limits, gate).read(body, boundary)
    except BaseException:
        file.close()
        raise


async def _in_time(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, unless the client falls silent or goes away."""
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(body)
            yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise RequestTimedOut(f"Nothing has arrived for {SILENCE_SECONDS} seconds.") from None
    except ClientDisconnect:
        raise TruncatedRequest from None


def _no_room(error: OSError) -> StoreUnavailable:
    log.warning("upload_not_spooled", extra={"error": type(error).__name__, "errno": error.errno})
    return StoreUnavailable("The server has no room for uploads at the moment.")


def _temporary_file(folder: Path) -> BinaryIO:
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))


@dataclass
class _Reception:
    """One form on its way in."""

    spool: _Spool
    limits: FormLimits
    gate: Gate
    filename: str | None = None
    fields: dict[str, bytearray] = field(default_factory=dict)
    #: name of the part that is being read
    current: str = ""

    async def read(self, body: AsyncIterator[bytes], boundary: str) -> ReceivedForm:
        try:
            return await self._read(_in_time(body), boundary)
        except OSError as error:
            raise _no_room(error) from None

    async def _read(self, body: AsyncIterator[bytes], boundary: str) -> ReceivedForm:
        try:
            with PushMultipartParser(boundary, max_segment_count=MAX_PARTS, strict=True) as parser:
                async for chunk in body:
                    if not chunk:  # would close the parser
                        continue
                    async with self.gate:
                        for event in parser.parse(chunk):
                            await self._event(event)
        except MultipartError as error:
            if str(error).startswith("Unexpected data after end of multipart stream"):
                return self._complete()  # usually the last line break, in a chunk of its own
            if str(error).startswith("Unexpected end of multipart stream"):
                raise TruncatedRequest from None
            log.info("form_malformed", extra={"error": str(error)})
            raise InvalidRequest("The body is not a well-formed multipart form.") from None
        return self._complete()

    async def _event(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event:
            await self._data(event)

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name or ""
        if name not in {"file", *self.limits.fields}:
            known = ", ".join(["file", *self.limits.fields])
            pointer = quote(name[:64].replace("~", "~0").replace("/", "~1"), safe="~")
            raise UnknownPart(f"There is no field {name[:64]!r}; there are {known}.", pointer=f"#/{pointer}")
        if name in self.fields or (name == "file" and self.filename is not None):
            raise UnknownPart(f"The field {name!r} is there twice.", pointer=f"#/{name}")
        self.current = name
        if name == "file":
            self.filename = check_filename(segment.filename)
        else:
            self.fields[name] = bytearray()

    async def _data(self, data: bytes | bytearray) -> None:
        if self.current != "file":
            self._text(data)
            return
        if self.spool.size + len(data) > self.limits.file_bytes:
            raise _too_large(self.limits.file_bytes, self.spool.size + len(data))
        await self.spool.write(data)

    def _text(self, data: bytes | bytearray) -> None:
        limit = self.limits.fields[self.current]
        value = self.fields[self.current]
        value += data
        if len(value) > limit:
            detail = f"The field {self.current!r} is longer than {limit} bytes."
            raise FieldTooLong(detail, pointer=f"#/{self.current}", limit=limit, value=len(value))

    def _complete(self) -> ReceivedForm:
        if self.filename is None:
            raise MissingPart("The part `file` is missing.", pointer="#/file")
        return ReceivedForm(
            file=self.spool.file,
            filename=self.filename,
            size=self.spool.size,
            sha256=self.spool.sha256(),
            fields={name: _decode(name, value) for name, value in self.fields.items()},
        )


def _decode(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The field {name!r} is not UTF-8.", pointer=f"#/{name}") from None


def check_filename(filename: str | None) -> str:
    """Refuse file names that no file has; nothing is ever stored under a client's file name."""
    if not filename:
        raise InvalidFilename("The part `file` needs a file name.", pointer="#/file")
    if len(filename) > MAX_FILENAME:
        detail = f"The file name has {len(filename)} characters, the limit is {MAX_FILENAME}."
        raise InvalidFilename(detail, pointer="#/file", limit=MAX_FILENAME, value=len(filename))
    if FORBIDDEN_IN_FILENAME.search(filename) or filename in {".", ".."}:
        detail = "The file name must not be a path or hold control characters."
        raise InvalidFilename(detail, pointer="#/file", value=filename[:64])
    return filename


def result_filename(upload: str, result: str, extension: str) -> str:
    """The name of a result's file: no longer than file systems take, which count bytes."""
    name = f"{safe_stem(upload)}-{result}".encode()[: MAX_FILENAME - len(extension) - 1]
    return f"{name.decode(errors='ignore').rstrip('-.')}.{extension}"


def safe_stem(filename: str) -> str:
    """The file name without its extension, fit for any file system and header; letters of every script stay."""
    stem = Path(unicodedata.normalize("NFC", filename)).stem
    return UNSAFE_IN_STEM.sub("-", stem)[:MAX_STEM].strip("-.") or "image"
