"""Objects in a container of Azure Blob Storage."""

from dataclasses import dataclass, field
from typing import ClassVar

from obstore.store import AzureStore

from app.services.storage.object_store import CloudPeer, client_options, given


@dataclass(frozen=True, kw_only=True)
class AzureContainer(CloudPeer):
    """`az://container`."""

    missing_bucket: ClassVar[str] = "ContainerNotFound"

    account: str | None = None
    account_key: str | None = field(default=None, repr=False)

    def _open(self, endpoint: str | None) -> AzureStore:
        return AzureStore(
            self.bucket,
            **given(endpoint=endpoint, account_name=self.account, account_key=self.account_key),
            **client_options(endpoint),
        )
