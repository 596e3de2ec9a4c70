"""Receives multipart forms as streams: limits are checked meanwhile, and no file is held in memory as a whole."""

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.errors import (
    FieldTooLong,
    InvalidRequest,
    MissingPart,
    NoRoom,
    TruncatedRequest,
    UnknownPart,
    UnsupportedMediaType,
    UploadTooLarge,
)
from app.services.storage.filenames import HEADER_CHARSET, check_filename, names_of

log = logging.getLogger(__name__)

PARALLEL_WRITES = 8  # chunks of all uploads that are parsed and written at a time; others wait unparsed
INLINE_BYTES = 4_000_000  # bytes of an upload that are written without a thread, in pieces of 64 kB
FORM_OVERHEAD = 16 * 1024  # bytes of part headers and boundaries around the file and the fields
MAX_PARTS = 12


@dataclass(frozen=True, kw_only=True)
class FormLimits:
    """Limits of a form; `fields` has the limit of each text field in bytes by its name."""

    file_bytes: int
    fields: dict[str, int]

    @property
    def body_bytes(self) -> int:
        return self.file_bytes + sum(self.fields.values()) + FORM_OVERHEAD


@dataclass(kw_only=True)
class Upload:
    """A file that has been received."""

    file: BinaryIO
    filename: str
    size: int
    sha256: str


@dataclass(kw_only=True)
class ReceivedForm(Upload):
    """A complete form, which must be closed to free the disk space of its file."""

    fields: dict[str, str]

    def close(self) -> None:
        discard(self.file)


@dataclass
class _Spool:
    """An unnamed temporary file, which disappears with the process, however that ends."""

    file: BinaryIO
    size: int = 0
    _sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    async def write(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if self.size <= INLINE_BYTES:
            self._store(data)  # into the page cache, which is faster than handing the data to a thread
        else:
            await asyncio.to_thread(self._store, data)  # a disk that cannot keep up would block the event loop

    def _store(self, data: bytes | bytearray) -> None:
        self.file.write(data)
        self._sha256.update(data)

    async def flush(self) -> None:
        """Write the rest of the buffer now, so that a full disk can still be reported to the client."""
        if self.size <= INLINE_BYTES:
            self.file.flush()
        else:
            await asyncio.to_thread(self.file.flush)

    def sha256(self) -> str:
        return self._sha256.hexdigest()


def is_json(content_type: str | None) -> bool:
    """Whether a content type is JSON."""
    return str(parse_options_header(content_type or "")[0]) == "application/json"


def boundary_of(content_type: str | None) -> str:
    """The boundary of a multipart form.

    Raises:
        UnsupportedMediaType: the content type is not that of a form.
        InvalidRequest: there is no boundary.
    """
    kind, options = parse_options_header(content_type or "")
    if kind != "multipart/form-data":
        raise UnsupportedMediaType(
            "Send the upload as multipart/form-data with the parts `file` and `operations`, or application/json with "
            "`input` and `operations`."
        )
    boundary = options.get("boundary", "")
    if not boundary:
        raise InvalidRequest("The Content-Type multipart/form-data needs a `boundary`.")
    return str(boundary)


def check_content_length(content_length: str | None, limits: FormLimits) -> None:
    """Refuse a body by its announced length, before it is read."""
    if content_length and content_length.isdigit() and int(content_length) > limits.body_bytes:
        raise _too_large(limits.file_bytes, int(content_length))


def _too_large(limit: int, value: int, pointer: str = "#/file") -> UploadTooLarge:
    detail = f"The upload is larger than {limit} bytes."
    return UploadTooLarge(detail, pointer=pointer, limit=limit, value=value)


class Gate(asyncio.Semaphore):
    """Limits how many chunks of uploads are parsed and written at a time, each of which takes several copies."""

    def __init__(self) -> None:
        super().__init__(PARALLEL_WRITES)


async def receive(
    body: AsyncIterator[bytes],
    boundary: str,
    limits: FormLimits,
    folder: Path,
    gate: Gate,
    check: Callable[[], None] = lambda: None,
) -> ReceivedForm:
    """Read a form with one `file` and text fields.

    Args:
        body: chunks of the request body.
        boundary: boundary of the multipart form.
        limits: limits of the form.
        folder: folder for the temporary file.
        gate: shared by all uploads of the process.
        check: called before the file is created, in the same thread; raises an error to prevent that.

    Raises:
        PixToolsError: the form is refused; nothing is left on disk.
    """
    try:
        file = await asyncio.to_thread(_checked_file, folder, check)
    except OSError as error:
        raise _no_room(error) from None
    try:
        return await _Reception(_Spool(file), limits, gate).read(body, boundary)
    except BaseException:
        discard(file)
        raise


async def receive_file(
    body: AsyncIterator[bytes], limit: int, folder: Path, gate: Gate, check: Callable[[], None] = lambda: None
) -> Upload:
    """Read a body that is a file; the arguments are as in `receive`. The caller must discard the file.

    Raises:
        PixToolsError: the file is refused; nothing is left on disk.
    """
    try:
        file = await asyncio.to_thread(_checked_file, folder, check)
    except OSError as error:
        raise _no_room(error) from None
    spool = _Spool(file)
    try:
        await _fill(spool, _whole(body), limit, gate)
    except OSError as error:
        discard(file)
        raise _no_room(error) from None
    except BaseException:
        discard(file)
        raise
    return Upload(file=file, filename="", size=spool.size, sha256=spool.sha256())


async def _fill(spool: _Spool, body: AsyncIterator[bytes], limit: int, gate: Gate) -> None:
    async for chunk in body:
        if spool.size + len(chunk) > limit:
            raise _too_large(limit, spool.size + len(chunk), "#")
        async with gate:
            await spool.write(chunk)
    await spool.flush()


def discard(file: BinaryIO) -> None:
    """Close a file that is no longer needed, even if its buffer cannot be written."""
    with suppress(OSError):  # closing writes the rest of the buffer
        file.close()


async def _whole(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of the whole body; raises an error if the client disconnects."""
    try:
        async for chunk in body:
            yield chunk
    except ClientDisconnect:
        raise TruncatedRequest from None


def _no_room(error: OSError) -> NoRoom:
    log.warning("upload_not_spooled", extra={"error": type(error).__name__, "errno": error.errno})
    return NoRoom()


def _checked_file(folder: Path, check: Callable[[], None]) -> BinaryIO:
    check()
    return _temporary_file(folder)


def _temporary_file(folder: Path) -> BinaryIO:
    """An unnamed file that can be linked to a name later if the file system allows it, unlike those of `tempfile`."""
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):
            return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "w+b")
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))


@dataclass
class _Reception:
    """The reception of one form."""

    spool: _Spool
    limits: FormLimits
    gate: Gate
    filename: str | None = None
    fields: dict[str, bytearray] = field(default_factory=dict)
    #: name of the part that is being read
    current: str = ""

    async def read(self, body: AsyncIterator[bytes], boundary: str) -> ReceivedForm:
        try:
            form = await self._read(_whole(body), boundary)
            await self.spool.flush()
            return form
        except OSError as error:
            raise _no_room(error) from None

    async def _read(self, body: AsyncIterator[bytes], boundary: str) -> ReceivedForm:
        try:
            with PushMultipartParser(
                boundary, max_segment_count=MAX_PARTS, header_charset=HEADER_CHARSET, strict=True
            ) as parser:
                async for chunk in body:
                    if not chunk:  # would close the parser
                        continue
                    async with self.gate:
                        for event in parser.parse(chunk):
                            await self._event(event)
        except MultipartError as error:
            if str(error).startswith("Unexpected data after end of multipart stream"):
                return self._complete()  # usually the last line break, in a separate chunk
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
        name, filename = names_of(segment)
        if name not in {"file", *self.limits.fields}:
            known = ", ".join(["file", *self.limits.fields])
            pointer = quote(name[:64].replace("~", "~0").replace("/", "~1"), safe="~")
            raise UnknownPart(f"There is no field {name[:64]!r}; the fields are {known}.", pointer=f"#/{pointer}")
        if name in self.fields or (name == "file" and self.filename is not None):
            raise UnknownPart(f"The field {name!r} is given twice.", pointer=f"#/{name}")
        self.current = name
        if name == "file":
            self.filename = check_filename(filename)
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
