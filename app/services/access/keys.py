"""API keys: their form, their rows, and their holders.

A key is `pxt_` + public id + `_` + secret + checksum. Only a hash of the secret is stored. The checksum distinguishes a
truncated or mistyped key from an unknown one without a query, and lets secret scanners find keys without false alarms.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections import Counter as CountOf
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.database import from_now
from app.errors import (
    ExpiredKey,
    KeyNotFound,
    KeyRefused,
    MalformedKey,
    MistypedKey,
    RevokedKey,
    TooManyKeys,
    UnknownKey,
)
from app.models import ApiKey, Counter, Scope, TenantRecord
from app.services.access import tenants
from app.services.access.principal import Principal

PREFIX = "pxt"
ID_CHARACTERS, ID_LENGTH = string.ascii_lowercase + string.digits, 12
SECRET_CHARACTERS, SECRET_LENGTH = string.ascii_letters + string.digits, 43  # 256 bits
CHECKSUM_LENGTH = 6  # 62^6 > 2^32
ID = rf"^[a-z0-9]{{{ID_LENGTH}}}$"
TOKEN = rf"{PREFIX}_([a-z0-9]{{{ID_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})([A-Za-z0-9]{{{CHECKSUM_LENGTH}}})"
COUNTER = "api_keys"  # counts all keys ever made
MAX_KEYS = 1000  # valid keys per tenant
NOBODY = "0" * 64  # the hash with which the secret of an unknown key is compared


@dataclass(frozen=True, kw_only=True)
class Token:
    """The parts of a key that was sent."""

    id: str
    secret_hash: str


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """The properties of a new key."""

    tenant: str
    scopes: frozenset[Scope]
    description: str = ""
    #: None: never
    expires_at: datetime | None = None
    #: id of the key that requested it; None: the command line
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A key that was found, and whether it is still valid."""

    principal: Principal
    expires_at: datetime | None
    refused: type[KeyRefused] | None

    def check(self) -> Principal:
        """The principal, if the key is still valid.

        Raises:
            KeyRefused: the key is no longer valid.
        """
        refused = self.refused
        if refused is None and _is_over(self.expires_at):
            refused = ExpiredKey
        if refused is not None:
            raise refused(key_id=self.principal.key_id, tenant=self.principal.tenant)
        return self.principal


def parse(text: str) -> Token:
    """Split a key into its parts.

    Raises:
        MalformedKey: the text is not a key.
        MistypedKey: the checksum does not match.
    """
    parts = re.fullmatch(TOKEN, text)
    if parts is None:
        raise MalformedKey
    id_, secret, checksum = parts.groups()
    if not hmac.compare_digest(_checksum(id_, secret), checksum):
        raise MistypedKey
    return Token(id=id_, secret_hash=_hash(secret))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(id_: str, secret: str) -> str:
    number = zlib.crc32(f"{PREFIX}_{id_}_{secret}".encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(SECRET_CHARACTERS))
        digits = SECRET_CHARACTERS[digit] + digits
    return digits


def create(session: Session, new: NewKey) -> tuple[ApiKey, str]:
    """Make a key; only this call returns its text.

    Raises:
        TenantNotFound: the tenant does not exist.
        TooManyKeys: the tenant already has `MAX_KEYS` keys.
    """
    # One key at a time, by the row's lock. From here on every request needs a key, even if all keys are revoked
    session.execute(update(Counter).where(Counter.name == COUNTER).values(value=Counter.value + 1))
    tenants.get(session, new.tenant)
    usable = [key for key in every(session, new.tenant) if state_of(key) == "valid"]
    if len(usable) >= MAX_KEYS:
        raise TooManyKeys(f"There are {len(usable)} keys; the limit is {MAX_KEYS}.", limit=MAX_KEYS, value=len(usable))
    id_ = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    secret = "".join(secrets.choice(SECRET_CHARACTERS) for _ in range(SECRET_LENGTH))
    key = ApiKey(
        id=id_,
        tenant=new.tenant,
        description=new.description,
        secret_hash=_hash(secret),
        scopes=sorted(scope.value for scope in new.scopes),
        created_by=new.created_by,
        created_at=from_now(),
        expires_at=new.expires_at,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, f"{PREFIX}_{id_}_{secret}{_checksum(id_, secret)}"


def _is_over(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= datetime.now(UTC)


def state_of(key: ApiKey) -> str:
    """`valid`, or why the key is refused."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if _is_over(key.expires_at) else "valid"


def every(session: Session, tenant: str | None = None) -> list[ApiKey]:
    """The keys of a tenant, or of all tenants, oldest first."""
    query = select(ApiKey).order_by(ApiKey.tenant, ApiKey.created_at, ApiKey.id)
    return list(session.scalars(query if tenant is None else query.where(ApiKey.tenant == tenant)))


def revoke(session: Session, key_id: str) -> ApiKey:
    """Revoke a key; a key that is already revoked is unchanged.

    Raises:
        KeyNotFound: no key has this id.
    """
    key = session.get(ApiKey, key_id, with_for_update=True) if re.fullmatch(ID, key_id) else None
    if key is None:
        raise KeyNotFound(f"There is no key {key_id[:64]!r}.")
    if key.revoked_at is None:
        key.revoked_at = from_now()
        session.flush()
        session.refresh(key)
    return key


def ever_made(session: Session) -> bool:
    """Whether there has ever been a key, even if it was deleted."""
    value = session.scalar(select(Counter.value).where(Counter.name == COUNTER))
    return value is None or value > 0


def find(session: Session, token: Token) -> Holder | None:
    """The holder of a key, by one statement; None: the key is unknown."""
    of_tenant = (
        *(TenantRecord.deleted_at, TenantRecord.requests_per_minute),
        *(TenantRecord.max_keep_seconds, TenantRecord.templates_only),
    )
    query = select(ApiKey, *of_tenant).join(TenantRecord, TenantRecord.name == ApiKey.tenant)
    row = session.execute(query.where(ApiKey.id == token.id)).one_or_none()
    # so that an unknown id takes as long as a wrong secret
    genuine = hmac.compare_digest(row[0].secret_hash if row else NOBODY, token.secret_hash)
    if row is None or not genuine:
        return None
    key, deleted_at, rate, kept, only = row
    return Holder(
        principal=Principal(
            tenant=key.tenant,
            key_id=key.id,
            scopes=_known(key.scopes),
            requests_per_minute=rate,
            max_keep_seconds=kept,
            templates_only=only,
        ),
        expires_at=key.expires_at,
        refused=RevokedKey if key.revoked_at or deleted_at else None,
    )


def count_valid(session: Session) -> CountOf[str]:
    """The number of valid keys by tenant."""
    return CountOf(key.tenant for key in every(session) if state_of(key) == "valid")


def open_among(session: Session, ids: Collection[str], scope: Scope) -> set[str]:
    """The ids of the given keys that are valid and have the scope, by one statement."""
    query = select(ApiKey).join(TenantRecord, TenantRecord.name == ApiKey.tenant)
    found = session.scalars(query.where(ApiKey.id.in_(ids), TenantRecord.deleted_at.is_(None)))
    return {key.id for key in found if state_of(key) == "valid" and {scope, Scope.ADMIN} & _known(key.scopes)}


def _known(scopes: Iterable[str]) -> frozenset[Scope]:
    """The scopes that this version knows; unknown ones have no effect."""
    return frozenset(Scope(scope) for scope in scopes if scope in set(Scope))


def note_use(session: Session, used: Mapping[str, datetime]) -> None:
    """Record when keys were last used."""
    for key_id, at in sorted(used.items()):  # the same order in all processes, to avoid deadlocks
        later = (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < at)
        session.execute(update(ApiKey).where(ApiKey.id == key_id, later).values(last_used_at=at))


def unknown() -> KeyRefused:
    """The refusal of an unknown key."""
    return UnknownKey()
