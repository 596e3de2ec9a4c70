"""Objects in a bucket of Google Cloud Storage."""

from dataclasses import dataclass
from pathlib import Path

from obstore.store import GCSStore

from app.services.storage.object_store import CloudPeer, client_options, given


@dataclass(frozen=True, kw_only=True)
class GoogleBucket(CloudPeer):
    """`gs://bucket`."""

    #: the key file of a service account
    service_account: Path | None = None

    def _open(self, endpoint: str | None) -> GCSStore:
        account = str(self.service_account) if self.service_account else None
        return GCSStore(self.bucket, **given(service_account=account, base_url=endpoint), **client_options(endpoint))
