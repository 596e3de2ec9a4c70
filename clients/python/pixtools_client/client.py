"""The client: one method for each thing that the command line does."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any, Self

import httpx

from pixtools_client.errors import DownloadFailed, Refused, ServerAway

OPEN = ("pending", "processing")
MAX_PAGE = 100  # entries that the server tells at once
MAX_KEY = 4096  # characters that are read of a key's file
OTHERS = 0o077
POLL = 0.2  # seconds between looks at a job
TIMEOUT = httpx.Timeout(30, write=300)  # seconds; a large upload over a thin line takes its time


def key_of_environment() -> str | None:
    """The key that commands send: `PIXTOOLS_KEY`, or the content of a file that nobody else may read, which
    `PIXTOOLS_KEY_FILE` names; by default `~/.config/pixtools/key`, if it is there.

    Raises:
        Refused: the file cannot be read, or others may read it.
    """
    key = os.environ.get("PIXTOOLS_KEY", "").strip()
    if key:
        return key
    named = os.environ.get("PIXTOOLS_KEY_FILE")
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    file = Path(named) if named else folder / "pixtools" / "key"
    if not named and not file.exists():
        return None
    try:
        with file.open() as opened:
            if os.fstat(opened.fileno()).st_mode & OTHERS:
                raise Refused(f"The key in {file} can be read by others: chmod 600 {file}")
            return opened.read(MAX_KEY).strip() or None
    except (OSError, UnicodeError) as error:
        raise Refused(f"The key file {file} cannot be read: {error}") from None


class Client:
    """Talks to one PixTools server."""

    def __init__(self, server: str) -> None:
        """Nothing is asked yet.

        Args:
            server: its address. The key for it is that of `PIXTOOLS_KEY`, or of a file (`key_of_environment`).
        """
        self._http = httpx.Client(base_url=server, timeout=TIMEOUT)
        key = key_of_environment()
        #: of requests to the server itself; where its links lead nobody else is told the key
        self._own = {"Authorization": f"Bearer {key}"} if key else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """One request; the decoded answer, or None if there is no body.

        Raises:
            Refused: the server does not take the request.
            ServerAway: the server does not answer, or not now.
        """
        try:
            response = self._http.request(method, path, headers=self._own | (headers or {}), **options)
        except httpx.HTTPError as error:
            raise ServerAway(f"{self._http.base_url} does not answer: {error}") from None
        except (UnicodeError, httpx.InvalidURL) as error:
            raise Refused(f"The request cannot be sent: {error}") from None
        if response.is_server_error:
            raise ServerAway(_explain(response))
        if response.is_error:
            raise Refused(_explain(response))
        return response.json() if response.content else None

    def submit(
        self,
        file: Path,
        operations: str,
        *,
        webhook_url: str | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Upload an image; the accepted job."""
        given = {"operations": operations, "webhook_url": webhook_url, "priority": priority}
        fields = {name: str(value) for name, value in given.items() if value not in (None, "")}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        with file.open("rb") as content:
            files = {"file": (file.name, content)}
            job: dict[str, Any] = self.call("POST", "/process", data=fields, files=files, headers=headers)
        return job

    def follow(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The job again and again, until it has ended."""
        while True:
            yield job
            if job["status"] not in OPEN:
                return
            time.sleep(POLL)
            job = self.call("GET", f"/jobs/{job['id']}")

    def newest(self, path: str, limit: int, **filters: str | None) -> Iterator[dict[str, Any]]:
        """The newest entries of a list, page by page, up to so many."""
        parameters: dict[str, Any] = {name: value for name, value in filters.items() if value}
        while limit > 0:
            page = self.call("GET", path, params={**parameters, "limit": min(limit, MAX_PAGE)})
            yield from page["data"]
            if not page["has_more"]:
                return
            limit -= len(page["data"])
            parameters["cursor"] = page["next_cursor"]

    def download(self, result: dict[str, Any], folder: Path) -> Path:
        """Write one result to a folder; the file.

        Raises:
            DownloadFailed: it cannot be fetched, or not be written.
        """
        path = folder / Path(result["filename"]).name
        try:
            with TemporaryDirectory(dir=folder, prefix=".") as unfinished:
                part = Path(unfinished) / "part"
                with part.open("wb") as file:
                    self._stream(result, file)
                part.rename(path)
        except OSError as error:
            raise DownloadFailed(f"{path}: {error.strerror}") from None
        return path

    def _stream(self, result: dict[str, Any], file: IO[bytes]) -> None:
        try:
            with self._http.stream("GET", result["url"]) as response:
                if response.is_error:
                    raise DownloadFailed(f"{result['name']}: the download answered {response.status_code}")
                for chunk in response.iter_bytes():
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise DownloadFailed(f"{result['name']}: the download broke off: {error}") from None


def _explain(response: httpx.Response) -> str:
    try:
        problem = response.json()
        lines = [f"{problem['code']}: {problem['detail']}"]
        lines += [
            f"  {error['pointer']}: {error['detail']}" for error in problem.get("errors", []) if "pointer" in error
        ]
    except (ValueError, KeyError):
        return f"The server answered {response.status_code}."
    return "\n".join(lines)
