"""The storage of webhook secrets: encrypted, and bound to their row.

A text that is copied to another row, endpoint or tenant cannot be decrypted there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.database import keyring_of
from app.errors import UnreadableSecret
from app.keyring import context_of
from app.models import WebhookSecret

BATCH = 500  # secrets in one transaction
TO_COME = ""  # placeholder until the row has the id to which its secret is bound; replaced before the commit


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """The outcome of encrypting a batch with the current key."""

    sealed: int = 0
    #: encrypted with a key that the settings do not name
    unreadable: int = 0
    #: key of the last row that was looked at; None: there are no more
    last: Any = None


def seal(session: Session, row: WebhookSecret, secret: str) -> None:
    """Encrypt the secret of a row that has been flushed."""
    row.secret = keyring_of(session).encrypt(secret, _context(row))
    session.flush()


def read(session: Session, row: WebhookSecret) -> str:
    """The secret of a row.

    Raises:
        UnreadableSecret: no key can decrypt the secret.
    """
    return keyring_of(session).decrypt(row.secret, _context(row))


def _context(row: WebhookSecret) -> str:
    return context_of(WebhookSecret.__tablename__, row.id, row.tenant, row.endpoint_id)


def outdated(session: Session) -> int:
    """The number of secrets that are not encrypted with the current key."""
    return count(session, _outdated(session))


def _outdated(session: Session) -> Select[WebhookSecret]:
    current = WebhookSecret.secret.startswith(keyring_of(session).prefix, autoescape=True)
    return select(WebhookSecret).where(~current)


def rotate(session: Session, after: int | None = None) -> Rotation:
    """Encrypt a batch of outdated secrets with the current key; `after` is `last` of the previous batch."""

    def encrypt_again(row: WebhookSecret) -> None:
        row.secret = keyring_of(session).encrypt(read(session, row), _context(row))

    return rotate_batch(session, _outdated(session), WebhookSecret.id, after, encrypt_again)


# -- for any kind of row -----------------------------------------------------------------------------------------------


def count(session: Session, rows: Select[Any]) -> int:
    """The number of rows that a query finds."""
    return session.scalars(select(func.count()).select_from(rows.subquery())).one()


def rotate_batch(
    session: Session,
    rows: Select[Any],
    key: InstrumentedAttribute[Any],
    after: Any,
    encrypt_again: Callable[[Any], None],
) -> Rotation:
    """Encrypt a batch of rows with the current key.

    Args:
        session: the transaction.
        rows: query for the rows that are encrypted with another key.
        key: column that identifies a row.
        after: `last` of the previous batch; None: this is the first batch.
        encrypt_again: encrypts a row, or raises `UnreadableSecret`.
    """
    ordered = rows.order_by(key).limit(BATCH)
    found = session.scalars((ordered if after is None else ordered.where(key > after)).with_for_update()).all()
    unreadable = 0
    for row in found:
        try:
            encrypt_again(row)
        except UnreadableSecret:
            unreadable += 1
    last = found[-1].id if len(found) == BATCH else None
    return Rotation(sealed=len(found) - unreadable, unreadable=unreadable, last=last)
