"""Users' buckets: opened with the users' own credentials, never with those of this machine.

obstore takes missing values from the environment: sessions, endpoints, whole credentials. So every value that the
environment could supply is set here, and the credentials come from a provider that knows only those of the store.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import obstore
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from app.errors import InvalidStore, StoreRefused
from app.services.storage.object_store import READ_SIZE, CloudClient, Reading

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
REGION = re.compile(r"[a-z]{2}(-[a-z]{1,16}){1,3}-\d{1,2}")
ANY_REGION = re.compile(r"[a-z0-9-]{1,64}")  # regions of servers other than AWS: `auto`, `garage`
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
TOKEN_SECONDS = 3600
NOWHERE = "pixtools-store-check/"  # prefix to list when a store is tried; no objects are expected there
CHECK_SECONDS = 10.0
MISSING = ("NoSuchBucket", "ContainerNotFound")
NOT_LISTED = "The store refuses these credentials, or does not let them list its objects."
FILE = "file"  # scheme of a folder, to which only the operator can connect a tenant

Credentials = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The values of a saved store."""

    url: str
    #: None: the provider's own
    endpoint: str | None
    region: str
    credentials: Credentials = field(repr=False)

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def bucket(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def address(self) -> str:
        """The endpoint for requests; for a folder, its URL."""
        if self.scheme == FILE:
            return self.url
        return self.endpoint or PROVIDERS[self.scheme].endpoint(self)


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A kind of bucket."""

    #: names of credentials, and whether they are required
    credentials: Mapping[str, bool]
    endpoint: Callable[[Connection], str]
    open: Callable[[Connection, dict[str, Any]], CloudClient]
    #: refuses credentials that cannot be used
    check: Callable[[Credentials], None] = lambda _: None


def _open_s3(connection: Connection, options: dict[str, Any]) -> S3Store:
    own = connection.credentials
    found: Any = {
        "access_key_id": own["access_key_id"],
        "secret_access_key": own["secret_access_key"],
        "token": own.get("session_token"),
        "expires_at": None,
    }
    return S3Store(
        connection.bucket,
        endpoint=connection.address,
        region=connection.region,
        virtual_hosted_style_request=False,
        skip_signature=False,
        request_payer=False,
        credential_provider=lambda: found,
        **options,
    )


def _s3_endpoint(connection: Connection) -> str:
    suffix = ".cn" if connection.region.startswith("cn-") else ""
    return f"https://s3.{connection.region}.amazonaws.com{suffix}"


def _open_google(connection: Connection, options: dict[str, Any]) -> GCSStore:
    own = connection.credentials
    return GCSStore(
        connection.bucket,
        base_url=connection.address,
        skip_signature=False,
        credential_provider=lambda: _token(own),
        **options,
    )


def _token(own: Credentials) -> Any:
    """A self-signed token of the service account, so that no token has to be requested from Google."""
    now = int(time.time())
    head = {"alg": "RS256", "typ": "JWT", "kid": own.get("private_key_id", "")}
    email = own["client_email"]
    claims = {"iss": email, "sub": email, "scope": SCOPE, "iat": now, "exp": now + TOKEN_SECONDS}
    signed = b".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
    signature = _private_key(own).sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return {
        "token": (signed + b"." + _encoded(signature)).decode(),
        "expires_at": datetime.fromtimestamp(now + TOKEN_SECONDS, UTC),
    }


def _private_key(own: Credentials) -> RSAPrivateKey:
    key = load_pem_private_key(own["private_key"].encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError("no RSA key")
    return key


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _check_google(own: Credentials) -> None:
    try:
        _private_key(own)
    except (ValueError, TypeError):
        pointer = "#/credentials/private_key"
        raise InvalidStore("private_key must be an RSA key in PEM without a password.", pointer=pointer) from None


def _open_azure(connection: Connection, options: dict[str, Any]) -> AzureStore:
    own: Any = {"access_key": connection.credentials["account_key"], "expires_at": None}
    return AzureStore(
        connection.bucket,
        account_name=connection.credentials["account"],
        endpoint=connection.address,
        use_emulator=False,
        use_fabric_endpoint=False,
        skip_signature=False,
        credential_provider=lambda: own,
        **options,
    )


def _check_azure(own: Credentials) -> None:
    if not ACCOUNT.fullmatch(own["account"]):
        raise InvalidStore("account must be 3 to 24 lower-case letters and digits.", pointer="#/credentials/account")
    try:
        base64.b64decode(own["account_key"], validate=True)
    except ValueError:
        raise InvalidStore("account_key must be base64.", pointer="#/credentials/account_key") from None


#: providers by scheme of the store's URL
PROVIDERS = {
    "s3": Provider(
        credentials={"access_key_id": True, "secret_access_key": True, "session_token": False},
        endpoint=_s3_endpoint,
        open=_open_s3,
    ),
    "gs": Provider(
        credentials={"client_email": True, "private_key": True, "private_key_id": False},
        endpoint=lambda _: "https://storage.googleapis.com",
        open=_open_google,
        check=_check_google,
    ),
    "az": Provider(
        credentials={"account": True, "account_key": True},
        endpoint=lambda connection: f"https://{connection.credentials['account']}.blob.core.windows.net",
        open=_open_azure,
        check=_check_azure,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The limits on waiting for a store that does not answer."""

    connect_seconds: float = 5.0
    seconds: float = 60.0
    retries: int = 2


def open_bucket(connection: Connection, patience: Patience | None = None) -> CloudClient:
    """A client of a user's bucket."""
    patience = patience or Patience()
    options = {
        "client_options": {
            "allow_http": connection.address.startswith("http:"),
            "allow_invalid_certificates": False,
            "connect_timeout": timedelta(seconds=patience.connect_seconds),
            "timeout": timedelta(seconds=patience.seconds),
        },
        "retry_config": {"max_retries": patience.retries, "retry_timeout": timedelta(seconds=20)},
    }
    return PROVIDERS[connection.scheme].open(connection, options)


def check_answers(connection: Connection) -> None:
    """Check that a bucket exists and can be listed.

    Raises:
        StoreRefused: the bucket does not exist, or cannot be listed.
    """
    patience = Patience(connect_seconds=3.0, seconds=10.0, retries=0)
    _check_stays(connection)
    try:
        next(iter(obstore.list(open_bucket(connection, patience), NOWHERE, chunk_size=1)), None)
    except (PermissionDeniedError, UnauthenticatedError):
        raise StoreRefused(NOT_LISTED, pointer="#/credentials") from None
    except (BaseError, OSError) as error:
        raise _refusal(connection, str(error)) from None


def _check_stays(connection: Connection) -> None:
    """Refuse an endpoint that redirects requests, before it gets credentials."""
    url = f"{connection.address}/{connection.bucket}"
    try:
        answer = httpx.get(url, follow_redirects=False, trust_env=False, timeout=CHECK_SECONDS)
    except httpx.HTTPError:
        return  # the store's own client will report the error
    if answer.is_redirect or 300 <= answer.status_code < 400:
        detail = "The store redirects to another address; is the region right?"
        raise StoreRefused(detail, pointer="#/endpoint", value=connection.endpoint)


def _refusal(connection: Connection, said: str) -> StoreRefused:
    """The error for a store's response, without any text from it, since the store may be any server."""
    if any(code in said for code in MISSING):
        return StoreRefused(f"There is no bucket {connection.bucket!r}.", pointer="#/url", value=connection.url)
    if any(code in said for code in ("403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId")):
        return StoreRefused(NOT_LISTED, pointer="#/credentials")
    return StoreRefused("The store does not answer as expected.", pointer="#/endpoint", value=connection.endpoint)


def read(client: CloudClient, key: str) -> Reading:
    """Start reading an object; errors are those of obstore."""
    answer = obstore.get(client, key)
    return Reading(
        size=answer.meta["size"], etag=answer.meta["e_tag"], pieces=iter(answer.stream(min_chunk_size=READ_SIZE))
    )
