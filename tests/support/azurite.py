"""Azurite, Microsoft's emulator of Azure Blob Storage, as a private server; `make azurite` installs it."""

import base64
import hashlib
import hmac
import secrets
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import httpx

from .server import HOST, MissingProgram, Server

PROGRAM = Path(__file__).parents[2] / ".azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
API_VERSION = "2021-08-06"


class Azurite(Server):
    """An Azurite with the container `pixtools-test`. It checks signatures as Azure does."""

    name = "azurite"
    not_ready = (httpx.HTTPError,)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        node = shutil.which("node")
        if node is None or not PROGRAM.exists():
            raise MissingProgram("Azurite is not installed: `make azurite`, which needs Node and npm")
        self._node = node
        self.account = "pixtools"
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.container = "pixtools-test"

    @property
    def url(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        """The URL of the storage account."""
        return f"http://{HOST}:{self.port}/{self.account}"

    def _prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def _command(self) -> Sequence[str | Path]:
        port = str(self.port)
        return [
            *(self._node, PROGRAM, "--blobHost", HOST, "--blobPort", port, "--location", self.data),
            *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    def _settings(self) -> dict[str, str]:
        return {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}

    def _check(self) -> None:
        """Create the container by a request signed with the account's key, since obstore cannot."""
        headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": API_VERSION}
        listed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        # the string to sign: method, eleven headers that are not sent, x-ms headers, then the path and the query
        text = "PUT" + "\n" * 12 + listed + f"/{self.account}/{self.account}/{self.container}\nrestype:container"
        signature = hmac.digest(base64.b64decode(self.key), text.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(signature).decode()}"
        answer = httpx.put(f"{self.endpoint}/{self.container}?restype=container", headers=headers, timeout=10)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
