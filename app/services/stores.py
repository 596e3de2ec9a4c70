"""Stores: a tenant's named connections to buckets. Their credentials are encrypted, and never shown again."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.database import from_now, keyring_of, tenant_of
from app.errors import InvalidStore, StoreEndpointRefused, StoreNotFound, TooManyStores
from app.keyring import context_of
from app.models import Store
from app.services.storage.destinations import ANY_REGION, BUCKET, FILE, PROVIDERS, REGION, Connection
from app.services.storage.places import Places
from app.services.webhooks import sealing

MAX_STORES = 50
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_CREDENTIAL = 8192  # characters


def checked(connection: Connection, endpoints: Collection[str]) -> Connection:
    """Check and return a connection; refuse a malformed one, or one whose endpoint is not allowed.

    Args:
        connection: the connection as it was sent.
        endpoints: allowed endpoints, in addition to those of the providers.

    Raises:
        InvalidStore: a member is malformed.
        StoreEndpointRefused: the operator has not allowed the endpoint.
    """
    parts = urlsplit(connection.url)
    if parts.scheme == FILE:
        detail = "Only the operator can connect a folder: `pixtools server stores put`."
        raise InvalidStore(detail, pointer="#/url", value=connection.url[:64])
    if parts.scheme not in PROVIDERS or connection.url != f"{parts.scheme}://{parts.netloc}":
        detail = "The URL of a store must be s3://bucket, gs://bucket or az://container."
        raise InvalidStore(detail, pointer="#/url", value=connection.url[:64])
    if not BUCKET.fullmatch(connection.bucket):
        raise InvalidStore("This is not the name of a bucket.", pointer="#/url", value=connection.bucket[:64])
    if not (ANY_REGION if connection.endpoint else REGION).fullmatch(connection.region):
        raise InvalidStore(
            "This is not a region, such as eu-central-1.", pointer="#/region", value=connection.region[:64]
        )
    if connection.endpoint is not None and connection.endpoint not in endpoints:
        raise StoreEndpointRefused(pointer="#/endpoint", value=connection.endpoint[:64])
    _check_credentials(connection)
    return connection


def folder(url: str, roots: Sequence[Path]) -> Connection:
    """The connection to a folder of this machine, at or below a root.

    Args:
        url: URL of the folder, `file:///…`.
        roots: folders that the operator has allowed.

    Raises:
        InvalidStore: the URL is malformed, or the folder is missing, not at or below a root, or behind a link.
    """
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme != FILE or parts.netloc or not path.is_absolute() or not str(path).isprintable():
        raise InvalidStore("The URL of a folder must be file:///path.", pointer="#/url", value=url[:64])
    found = Connection(url=path.as_uri(), endpoint=None, region="", credentials={})
    try:
        Places(roots=tuple(roots)).folder(found).check()
    except OSError as error:
        known = ", ".join(map(str, roots)) or "none"
        detail = (
            f"{path} cannot be opened as a folder at or below a root, without links on the way: {error.strerror}. "
            f"The roots of PIXTOOLS_FILE_STORE_ROOTS are: {known}."
        )
        raise InvalidStore(detail, pointer="#/url", value=url[:64]) from None
    return found


def _check_credentials(connection: Connection) -> None:
    provider = PROVIDERS[connection.scheme]
    for name, value in connection.credentials.items():
        pointer = f"#/credentials/{name[:64]}"
        if name not in provider.credentials:
            known = ", ".join(provider.credentials)
            raise InvalidStore(
                f"{connection.scheme}:// has no such credential; its credentials are {known}.", pointer=pointer
            )
        if not value or len(value) > MAX_CREDENTIAL or "\0" in value:
            raise InvalidStore(f"{name} must have 1 to {MAX_CREDENTIAL} characters.", pointer=pointer)
    for name, is_needed in provider.credentials.items():
        if is_needed and name not in connection.credentials:
            raise InvalidStore(f"{name} is missing.", pointer=f"#/credentials/{name}")
    provider.check(connection.credentials)


def put(session: Session, name: str, connection: Connection) -> tuple[Store, bool]:
    """Save a connection for the session's tenant; the second value is true if it is new.

    Raises:
        TooManyStores: the tenant already has `MAX_STORES` stores.
    """
    store = session.scalar(select(Store).where(Store.name == name).with_for_update())
    is_new = store is None
    if store is None:
        count = session.scalars(select(func.count()).select_from(Store)).one()
        if count >= MAX_STORES:
            raise TooManyStores(f"There are {count} stores; the limit is {MAX_STORES}.", limit=MAX_STORES, value=count)
        store = Store(tenant=tenant_of(session), name=name, created_at=from_now())
        session.add(store)
    store.url, store.endpoint, store.region = connection.url, connection.endpoint, connection.region
    store.updated_at = from_now()
    text = json.dumps(dict(connection.credentials), separators=(",", ":"))
    store.credentials = keyring_of(session).encrypt(text, _context(tenant_of(session), name))
    session.flush()
    session.refresh(store)
    return store, is_new


def every(session: Session) -> list[Store]:
    """All stores, by name."""
    return list(session.scalars(select(Store).order_by(Store.name)))


def get(session: Session, name: str) -> Store:
    """One store of the session's tenant.

    Raises:
        StoreNotFound: there is no store of this name.
    """
    store = session.scalar(select(Store).where(Store.name == name)) if NAME.fullmatch(name) else None
    if store is None:
        raise StoreNotFound(f"There is no store {name[:64]!r}.")
    return store


def delete(session: Session, name: str) -> str:
    """Delete a store, and return its name. Jobs that still need it fail.

    Raises:
        StoreNotFound: there is no store of this name.
    """
    session.delete(get(session, name))
    return name


def connection(session: Session, name: str) -> Connection:
    """The connection of a store of the session's tenant.

    Raises:
        StoreNotFound: there is no store of this name.
        UnreadableSecret: no key can decrypt its credentials.
    """
    return _opened(session, get(session, name))


def _opened(session: Session, store: Store) -> Connection:
    text = keyring_of(session).decrypt(store.credentials, _context(store.tenant, store.name))
    return Connection(url=store.url, endpoint=store.endpoint, region=store.region, credentials=json.loads(text))


def _context(tenant: str | None, name: str) -> str:
    return context_of(Store.__tablename__, tenant, name)


def outdated(session: Session) -> int:
    """The number of stores whose credentials are not encrypted with the current key."""
    return sealing.count(session, _outdated(session))


def _outdated(session: Session) -> Select[Store]:
    return select(Store).where(~Store.credentials.startswith(keyring_of(session).prefix, autoescape=True))


def rotate(session: Session, after: Any = None) -> sealing.Rotation:
    """Encrypt a batch of outdated credentials with the current key; `after` is `last` of the previous batch."""

    def encrypt_again(store: Store) -> None:
        keyring, context = keyring_of(session), _context(store.tenant, store.name)
        store.credentials = keyring.encrypt(keyring.decrypt(store.credentials, context), context)

    return sealing.rotate_batch(session, _outdated(session), Store.id, after, encrypt_again)
