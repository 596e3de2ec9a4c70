"""The audit log: changes of keys, tenants and receivers, deletions, and refused requests, with their actors.

An entry is written in the transaction of the action that it records, so the log contains exactly the actions that took
place. Entries are never changed; they are removed when they are too old, or with their tenant.
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
OPERATOR = "operator"  # the command line, which uses the database directly
OPEN = "open"  # a request without a key, before the first key was made
REFUSED = "request.refused"
LONGEST_SUBJECT = 255  # characters


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A refused request with a known key, and its minute."""

    tenant: str
    key_id: str
    code: str
    #: minutes since 1970
    minute: int

    @property
    def once(self) -> str:
        return f"{self.key_id}:{self.code}:{self.minute}"


def actor_of(principal: Principal | None) -> str:
    """The name of an actor for the log; None: the operator at the command line."""
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
    """Record the action of this transaction.

    Args:
        session: one transaction.
        action: the action, e.g. `key.created`.
        subject: id or name of the object of the action.
        tenant: the tenant in whose log the entry appears.
        actor: the actor, as returned by `actor_of`.
        details: further facts, none of them secret.
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
    """A service whose effect is recorded in the same transaction."""

    principal: Principal
    action: str
    #: the object of the action, from the service's return value
    subject: Callable[[Any], str | None]
    details: Callable[[Any], dict[str, Any]] = lambda _: {}

    def __call__(
        self, session: Session, service: Callable[Concatenate[Session, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run the service and record its effect; nothing is recorded if the subject is None."""
        outcome = service(session, *args, **kwargs)
        subject = self.subject(outcome)
        if subject is not None:
            record(
                session,
                self.action,
                subject,
                tenant=tenant_of(session) or self.principal.tenant,  # an operator may act for another tenant
                actor=actor_of(self.principal),
                details=self.details(outcome),
            )
        return outcome


def note_refusals(session: Session, refusals: Sequence[Refusal]) -> None:
    """Record refusals, each only once even if several processes report it."""
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
        since: only entries from this time on.
        until: only entries before this time.
        after: id of the last entry that was read; empty: start at the beginning.
        tenant: the tenant; None: all tenants.
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
    """An entry as the API and the commands show it."""
    names = ("id", "at", "tenant", "actor", "action", "subject", "details")
    shown = {name: getattr(entry, name) for name in names}
    return shown | {"at": in_utc(entry.at)}


def remove_old(session: Session, kept_seconds: float) -> int:
    """Delete a batch of entries that are too old; returns their number."""
    old = select(AuditEntry.id).where(AuditEntry.at < from_now(-kept_seconds)).order_by(AuditEntry.at).limit(PAGE)
    removed = session.execute(delete(AuditEntry).where(AuditEntry.id.in_(old)))
    return int(removed.rowcount)  # type: ignore[attr-defined]
