"""Objects in a bucket of S3, or of another server with its protocol."""

from dataclasses import dataclass, field

from obstore.store import S3Store

from app.services.storage.object_store import CloudPeer, client_options, given


@dataclass(frozen=True, kw_only=True)
class S3Bucket(CloudPeer):
    """`s3://bucket`."""

    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)

    def _open(self, endpoint: str | None) -> S3Store:
        return S3Store(
            self.bucket,
            region=self.region,
            virtual_hosted_style_request=endpoint is None,
            **given(endpoint=endpoint, access_key_id=self.access_key, secret_access_key=self.secret_key),
            **client_options(endpoint),
        )
