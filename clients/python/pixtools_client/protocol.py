"""The code without I/O that both clients share: requests, responses, errors and retries."""

import hashlib
import json
import os
import random
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import quote

import httpx

from pixtools_client.errors import BY_CODE, BY_STATUS, DownloadFailed, FileExists, Refused, ServerAway, Unauthorized
from pixtools_client.types import FactsSource, Job, Result, ResultSource, StoreSource, UrlSource

OPEN = ("pending", "processing")
MAX_PAGE = 100  # entries in one page of the server
SILENCE = 30.0  # seconds without an answer, after which a request has failed
TIMEOUT = httpx.Timeout(SILENCE, write=300)  # seconds; a large upload over a thin line takes its time
FIRST_CONTACT = httpx.Timeout(10)  # seconds, of the question whether a server is there
WAITING = httpx.Timeout(30, read=100)  # of an answer that the server holds
MOST_SILENT = 45.0  # seconds of a stream, in which there is a comment each 15
HELD = 20  # seconds that an answer is asked to be held
PATIENCE = 30.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between two tries; each is up to twice as long as the one before
POLL = 0.5  # seconds between two looks at a job, where a server holds no answer
#: answers after which the same request may succeed
PASSING = {429, 502, 503, 504}
IN_FLIGHT = "idempotency_key_in_flight"
CHUNK = 64 * 1024
MAX_FILENAME = 255  # characters
#: what the server refuses in the name of a file; the last range stands for bytes that are not UTF-8
NOT_IN_FILENAME = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]")

#: a path, the bytes themselves, or an open file
File = str | os.PathLike[str] | bytes | IO[bytes]
#: what is sent; or a URL, also as a text alone, an object of a store, or a result of another job
Source = File | UrlSource | StoreSource | ResultSource
#: a text that is not a path
URL = re.compile(r"data:[^,]*,|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
#: names separated by commas, the tree as JSON text, or the tree
Operations = str | Sequence[Any]
IfExists = Literal["fail", "replace", "skip", "rename"]
Moment = datetime | str


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request."""

    method: str
    path: str
    #: whether it may be sent twice
    repeatable: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    timeout: httpx.Timeout | None = None

    def options(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            "params": {name: _text(value) for name, value in self.params.items() if value is not None}
        }
        if self.content is not None:
            given["content"] = self.content
        return given | ({"json": self.json} if self.json is not None else {})


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def get(
    path: str, *, headers: Mapping[str, str] | None = None, timeout: httpx.Timeout | None = None, **params: Any
) -> Call:
    return Call(method="GET", path=path, repeatable=True, params=params, headers=headers or {}, timeout=timeout)


def post(path: str, body: Any = None, *, repeatable: bool = False) -> Call:
    return Call(method="POST", path=path, json=body, repeatable=repeatable)


def store(path: str, *, body: Any = None, content: bytes | None = None) -> Call:
    return Call(method="PUT", path=path, json=body, content=content, repeatable=True)


def delete(path: str) -> Call:
    return Call(method="DELETE", path=path, repeatable=True)


def part(id_: str) -> str:
    """Encode an id as part of a path.

    Raises:
        Refused: the id is empty or consists of dots, so that the path would be that of another route.
    """
    if not id_.strip("."):
        raise Refused(f"An id is missing: {id_!r} is not an id.")
    return quote(id_, safe="")


def tree_of(operations: Operations) -> str:
    """The tree as JSON text; names separated by commas are branches."""
    if not isinstance(operations, str):
        return json.dumps(operations)
    text = operations.strip()
    return text if text.startswith(("[", "{", '"')) else json.dumps([name.strip() for name in text.split(",")])


def nodes_of(operations: Operations) -> list[Any]:
    """The tree as a value.

    Raises:
        Refused: the text is not JSON.
    """
    try:
        tree = json.loads(tree_of(operations))
    except ValueError as error:
        raise Refused(f"The operations are not valid JSON: {error}.") from None
    return tree if isinstance(tree, list) else [tree]


def form_of(operations: Operations | None, given: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a form besides the file."""
    fields = {} if operations is None else {"operations": tree_of(operations)}
    for name, value in given.items():
        if value not in (None, ""):
            fields[name] = value if isinstance(value, str) else json.dumps(value)
    return fields


def elsewhere(source: Source | FactsSource) -> Mapping[str, Any] | None:
    """The member `input` for an image that is not sent; None: the image is sent."""
    if isinstance(source, str):
        return {"url": source} if URL.match(source) else None
    return cast("Mapping[str, Any]", source) if isinstance(source, Mapping) else None


def body_of(source: Mapping[str, Any], operations: Operations | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a request for an image that the server fetches."""
    body = {"input": source} | ({} if operations is None else {"operations": nodes_of(operations)})
    return body | {name: value for name, value in given.items() if value not in (None, "")}


class Upload:
    """A file that can be sent repeatedly."""

    def __init__(self, source: File, filename: str | None) -> None:
        """Prepare a file without opening it.

        Args:
            source: the file to send. An open file that is not seekable is read as a whole.
            filename: name of the file; default: the name of the path or of the open file.
        """
        self._path: Path | None = None
        self._content: bytes | IO[bytes] = b""
        self._start = 0
        known: Any = ""
        if isinstance(source, str | os.PathLike):
            self._path = Path(source)
            known = self._path.name
        elif isinstance(source, bytes):
            self._content = source
        else:
            known = getattr(source, "name", "")
            self._content = source if source.seekable() else source.read()
            self._start = source.tell() if source.seekable() else 0
        own = Path(known).name if isinstance(known, str) and known else "image"
        self.filename = filename or sendable(own)

    def open(self) -> bytes | IO[bytes]:
        """Open the file, or return to its start, to send it.

        Raises:
            Refused: the file cannot be read.
        """
        try:
            if self._path is not None:
                return self._path.open("rb")
            if not isinstance(self._content, bytes):
                self._content.seek(self._start)
        except OSError as error:
            raise Refused(f"{self._path or self.filename}: {error.strerror}") from None
        return self._content

    def close(self, opened: bytes | IO[bytes]) -> None:
        if self._path is not None and not isinstance(opened, bytes):
            opened.close()


def sendable(name: str) -> str:
    """The name of a file as the server takes it.

    A name that has to be changed gets a part of its checksum, so that names which were different stay so.
    """
    plain = NOT_IN_FILENAME.sub("_", name)
    if plain == name and len(name) <= MAX_FILENAME:
        return name
    own = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:6]
    stem, suffix = Path(plain).stem, Path(plain).suffix[:16]
    return f"{stem[: MAX_FILENAME - len(suffix) - 7]}-{own}{suffix}"


def authorization(key: str | None, origin: str) -> dict[str, str]:
    """The header that has the key.

    Raises:
        Unauthorized: the key cannot be sent in a header.
    """
    if key and not (key.isascii() and key.isprintable()):
        message = f"malformed_key: The key of {origin} has characters that no key has."
        raise Unauthorized(message, problem={"code": "malformed_key", "detail": message.partition(": ")[2]})
    return {"Authorization": f"Bearer {key}"} if key else {}


def problem_of(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def failure(response: httpx.Response) -> Refused | ServerAway:
    """The error for a response."""
    problem = problem_of(response)
    message = _explained(problem) or f"The server answered {response.status_code}."
    if response.is_server_error:
        return ServerAway(message, problem=problem)
    by_status = BY_STATUS.get(response.status_code, Refused)
    kind = BY_CODE.get(problem.get("code", ""), by_status)
    return kind(message, status=response.status_code, problem=problem)


def _explained(problem: Mapping[str, Any]) -> str:
    if "code" not in problem or "detail" not in problem:
        return ""
    said = problem["detail"]
    lines = [f"{problem['code']}: {said}"]
    for error in problem.get("errors", ()):
        if "pointer" in error:
            detail = "" if error["detail"] == said else f": {error['detail']}"
            lines.append(f"  {error['pointer']}{detail}")
    return "\n".join(lines)


def away(server: str, error: httpx.HTTPError) -> ServerAway:
    """The error for a request without an answer."""
    reason = str(error) or ("no answer in time" if isinstance(error, httpx.TimeoutException) else type(error).__name__)
    return ServerAway(f"{server} does not answer: {reason}")


def may_pass(response: httpx.Response) -> bool:
    """Whether the same request may succeed later, by its response."""
    return response.status_code in PASSING or (
        response.status_code == httpx.codes.CONFLICT and problem_of(response).get("code") == IN_FLIGHT
    )


class Tries:
    """The schedule for retries of a request."""

    def __init__(self, patience: float) -> None:
        self._left = patience
        self._pause = FIRST_PAUSE

    def spend(self, error: httpx.HTTPError) -> None:
        """Count the time in which a server was silent; an upload that broke off has not tried anyone's patience."""
        if isinstance(error, httpx.TimeoutException):
            self._left -= SILENCE

    def pause(self, response: httpx.Response | None = None) -> float | None:
        """The seconds until the next try; None: the patience is used up."""
        asked = response.headers.get("retry-after", "") if response is not None else ""
        wanted = max(float(asked) if asked.isdecimal() else 0.0, self._pause * random.uniform(0.5, 1))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if wanted > self._left:
            return None
        self._left -= wanted
        return wanted


def silence(seconds: float | None) -> httpx.Timeout:
    """The time-outs of a stream, which counts as broken after `seconds` without a line."""
    return httpx.Timeout(30, read=min(seconds or MOST_SILENT, MOST_SILENT))


def headers_behind(cursor: str | None) -> dict[str, str]:
    return {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})


@dataclass
class EventParser:
    """Parses lines into server-sent events."""

    #: of the last one, also of one without data
    last_id: str | None = None
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> tuple[str, Any] | None:
        """Parse a line; returns name and data of the event that it ends, or None."""
        if line:
            self._take(*line.partition(":")[::2])
            return None
        name, data = self._name, self._data
        self._name, self._data = "", []
        return (name or "message", json.loads("\n".join(data))) if data else None

    def _take(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)


# -- files -------------------------------------------------------------------------------------------------------------


def target_of(result: Result, to: Path) -> Path:
    """The path of the file for a result; in a folder, it has the file name of the result."""
    return to / Path(result["filename"]).name if to.is_dir() else to


def is_same(path: Path, result: Result) -> bool:
    """Whether a file has the content of a result."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size == result["bytes"] and (
                hashlib.file_digest(file, "sha256").hexdigest() == result["sha256"]
            )
    except OSError:
        return False


def there_already(path: Path, result: Result | None, if_exists: IfExists) -> bool:
    """Whether the file already exists, so that the result need not be fetched.

    Args:
        path: path of the file.
        result: the result that the file may be; None: unknown.
        if_exists: what to do if the file has other content.

    Raises:
        FileExists: the file has other content, and may not be replaced.
    """
    if not path.exists() or if_exists in {"replace", "rename"}:
        return False
    if if_exists == "skip" or (result is not None and is_same(path, result)):
        return True
    raise another(path)


def another(path: Path) -> FileExists:
    return FileExists(f"{path}: another file of this name exists")


_unfinished: set[Path] = set()


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A name next to a file, for its content until it is complete; in the end there is nothing of this name."""
    part_ = path.with_name(f".{secrets.token_hex(6)}.part")
    _unfinished.add(part_)
    try:
        yield part_
    finally:
        part_.unlink(missing_ok=True)
        _unfinished.discard(part_)


def remove_unfinished() -> None:
    """Remove what threads have begun to write, before the process ends without waiting for them."""
    for part_ in tuple(_unfinished):
        with suppress(OSError):
            part_.unlink(missing_ok=True)


def put(part_: Path, path: Path, if_exists: IfExists) -> Path:
    """Give a complete file its final name, in one step or not at all; returns its path.

    Raises:
        FileExists: a file of this name was created meanwhile.
    """
    if if_exists == "replace":
        part_.replace(path)
        return path
    for name in _names(path) if if_exists == "rename" else (path,):
        try:
            os.link(part_, name)
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if name.exists():
                continue
            part_.replace(name)
        return name
    if if_exists == "skip":
        return path
    raise another(path)


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, 10_000):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


class Check:
    """Checks the hash of a result while it is downloaded."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        return chunk

    def finish(self) -> None:
        """Raise unless the whole result has arrived.

        Raises:
            DownloadFailed: the download differs from what the server has stored.
        """
        if self._digest.hexdigest() != self._result["sha256"]:
            raise DownloadFailed(f"{self._result['name']}: the download differs from what the server has stored")


def is_open(job: Job) -> bool:
    return job["status"] in OPEN
