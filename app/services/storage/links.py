"""Download URLs: presigned for the provider of the bucket, or signed here if the API serves a local folder."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import quote

from app.errors import InvalidDownloadLink
from app.models import Job, Result
from app.services.storage.object_store import CloudPeer


class DownloadLinks(Protocol):
    """Makes download URLs of results."""

    def url(self, job: Job, result: Result) -> tuple[str, datetime]:
        """An absolute URL, and the time at which it expires."""


@dataclass(frozen=True)
class PresignedLinks:
    """Links to the provider of the bucket: downloads never pass through the API."""

    storage: CloudPeer
    seconds: int

    def url(self, job: Job, result: Result) -> tuple[str, datetime]:
        expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self.seconds)
        return self.storage.presign(result.key, self.seconds), expires_at


@dataclass(frozen=True)
class ApiLinks:
    """Links to the API's own download route."""

    secret: bytes
    seconds: int
    #: earlier keys, whose links are still valid
    older: tuple[bytes, ...] = ()

    def url(self, job: Job, result: Result) -> tuple[str, datetime]:
        expires = int(time.time()) + self.seconds
        path = f"/jobs/{job.id}/results/{quote(result.name, safe='')}"
        query = f"expires={expires}&signature={_sign(self.secret, str(job.id), result.name, expires)}"
        return f"{job.base_url}{path}?{query}", datetime.fromtimestamp(expires, UTC)

    def check(self, job_id: str, name: str, expires: int, signature: str) -> None:
        """Accept a link that this service made and that has not expired.

        Raises:
            InvalidDownloadLink: the link was not made by this service, or has expired.
        """
        made = [_sign(key, job_id, name, expires) for key in (self.secret, *self.older)]
        genuine = [hmac.compare_digest(one.encode(), signature.encode()) for one in made]
        if not any(genuine) or expires < time.time():
            raise InvalidDownloadLink


def _sign(key: bytes, job_id: str, name: str, expires: int) -> str:
    message = f"{job_id}\n{name}\n{expires}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()
