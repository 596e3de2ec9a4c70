"""Google Cloud Storage's XML API, as far as it is the same as S3's: a proxy that checks Google's tokens.

The proxy forwards requests to an S3 server with a public bucket, but answers those without a token of the service
account with 401. Signed URLs, in which the two protocols differ, are not supported.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .receiver import HttpServer
from .server import HOST
from .servers import ObjectStoreServer

HOP_BY_HOP = {"connection", "transfer-encoding", "authorization", "host"}


@dataclass(frozen=True)
class Google:
    """A bucket, and the key file of a service account with access to it."""

    bucket: str
    endpoint: str
    service_account: Path


@contextmanager
def google_before(server: ObjectStoreServer, folder: Path) -> Iterator[Google]:
    """Run the proxy within the block."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    handler = type("Handler", (_Handler,), {"key": key.public_key(), "port": server.port})
    with HttpServer((HOST, 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Google(
                server.open_bucket, f"http://{HOST}:{proxy.server_port}", _service_account(key, folder / "account.json")
            )
        finally:
            proxy.shutdown()
            thread.join()


def _service_account(key: rsa.RSAPrivateKey, path: Path) -> Path:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"private_key": pem, "private_key_id": "1", "client_email": "pixtools@example.test"}
    path.write_text(json.dumps(account))
    return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key: rsa.RSAPublicKey
    port: int

    def _forward(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_genuine(self.headers.get("Authorization", "")):
            self._answer(401, {}, b"")
            return
        headers = dict(_as_s3(name, value) for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP)
        with closing(HTTPConnection(HOST, self.port, timeout=60)) as server:
            server.request(self.command, self.path, body=content or None, headers=headers)
            answer = server.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - named by the standard library

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        if self.command != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name.lower().replace("x-amz-meta-", "x-goog-meta-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _is_genuine(self, authorization: str) -> bool:
        """Whether this is a self-signed JWT of the service account (RS256)."""
        signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        try:
            self.key.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


def _as_s3(name: str, value: str) -> tuple[str, str]:
    """S3's equivalent of a header for metadata, or for the precondition that the object does not exist."""
    name = name.lower().replace("x-goog-meta-", "x-amz-meta-")
    return ("if-none-match", "*") if (name, value) == ("x-goog-if-generation-match", "0") else (name, value)
