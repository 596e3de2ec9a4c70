"""The audit log: who has changed keys, tenants and receivers, what was deleted, and what a key was refused.

A row is written in the transaction of what it records, so there is one for exactly what has happened. None is ever
changed; they go when they are too old, or with their tenant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.database import from_now, insert_rows, insertion, tenant_of
from app.models import AuditEntry
from app.moments import in_utc
from app.services.access.principal import Principal
from app.services.ids import new_id

P = ParamSpec("P")
R = TypeVar("R")

PREFIX = "aud"
PAGE = 500  # entries that are read, written or removed at a time
OPERATOR = "operator"  # the command line, which works on the database itself
OPEN = "open"  # a request without a key, before there was any
REFUSED = "request.refused"
LONGEST_SUBJECT = 255  # characters


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a known key was refused, and in which minute."""

    tenant: str
    key_id: str
    code: str
    #: since 1970
    minute: int

    @property
    def once(self) -> str:
        return f"{self.key_id}:{self.code}:{self.minute}"


def actor_of(principal: Principal | None) -> str:
    """Who has acted; None: the command line."""
    if principal is None:
        return OPERATOR
    return principal.key_id or OPEN


def record(
    session: Session,
    action: str,
    subject: str,
    *,
    tenant: str,
    actor: str = OPERATOR,
    details: dict[str, Any] | None = None,
) -> None:
    """Write down what this transaction does.

    Args:
        session: one transaction.
        action: what is done: `key.created`.
        subject: to what: an id or a name.
        tenant: whose log it is.
        actor: as `actor_of`.
        details: that explain it, and are not secret.
    """
    entry = AuditEntry(
        id=new_id(PREFIX),
        tenant=tenant,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        subject=subject[:LONGEST_SUBJECT],
        details=details or {},
        once=None,
    )
    insert_rows(session, [entry])


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A service whose effect is written down with it."""

    principal: Principal
    action: str
    #: what it is done to, by what the service returns
    subject: Callable[[Any], str | None]
    details: Callable[[Any], dict[str, Any]] = lambda _: {}

    def __call__(
        self, session: Session, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run the service; if it returns None as its subject it has done nothing, and nothing is written."""
        outcome = service(session, *args, **kwargs)
        subject = self.subject(outcome)
        if subject is not None:
            record(
                session,
                self.action,
                subject,
                tenant=tenant_of(session) or self.principal.tenant,  # the operator may work for another one
                actor=actor_of(self.principal),
                details=self.details(outcome),
            )
        return outcome


def note_refusals(session: Session, refusals: Sequence[Refusal]) -> None:
    """Write down refusals, each once, even if several processes report it."""
    rows = [
        {
            "id": new_id(PREFIX),
            "tenant": refusal.tenant,
            "at": datetime.fromtimestamp(refusal.minute * 60, UTC),
            "actor": refusal.key_id,
            "action": REFUSED,
            "subject": refusal.code,
            "details": {},
            "once": refusal.once,
        }
        for refusal in refusals
    ]
    if rows:
        session.connection().execute(insertion(session, AuditEntry).on_conflict_do_nothing(), rows)


def page(
    session: Session, *, since: datetime | None, until: datetime | None, after: str, tenant: str | None
) -> list[AuditEntry]:
    """The next entries, oldest first.

    Args:
        session: the transaction.
        since: not before.
        until: before.
        after: id of the last one that was read; empty: from the beginning.
        tenant: whose; None: of all.
    """
    query = select(AuditEntry).where(AuditEntry.id > after).order_by(AuditEntry.id).limit(PAGE)
    if tenant is not None:
        query = query.where(AuditEntry.tenant == tenant)
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if until is not None:
        query = query.where(AuditEntry.at < until)
    return list(session.scalars(query))


def line(entry: AuditEntry) -> dict[str, Any]:
    """An entry as it is shown."""
    names = ("id", "at", "tenant", "actor", "action", "subject", "details")
    shown = {name: getattr(entry, name) for name in names}
    return shown | {"at": in_utc(entry.at)}


def remove_old(session: Session, kept_seconds: float) -> int:
    """Forget a batch of entries that are too old; how many that was."""
    old = select(AuditEntry.id).where(AuditEntry.at < from_now(-kept_seconds)).order_by(AuditEntry.at).limit(PAGE)
    removed = session.execute(delete(AuditEntry).where(AuditEntry.id.in_(old)))
    return int(removed.rowcount)  # type: ignore[attr-defined]
