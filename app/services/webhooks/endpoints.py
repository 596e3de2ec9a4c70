"""Registered receivers of webhooks, and their signing keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from app.database import from_now, tenant_of
from app.errors import EndpointDisabled, TooManyEndpoints
from app.locks import AdvisoryLock, wait_for
from app.models import EventType, WebhookDelivery, WebhookEndpoint, WebhookSecret
from app.services.ids import ENDPOINT
from app.services.webhooks import sealing, signing

MAX_ENDPOINTS = 100
BATCH = 1000  # deliveries in one transaction
OVERLAP_SECONDS = 86_400  # time after a rotation for which the old key signs as well


@dataclass(frozen=True, kw_only=True)
class Target:
    """A receiver of an event."""

    endpoint_id: str | None
    url: str


def create(session: Session, *, url: str, events: Sequence[str], description: str) -> tuple[WebhookEndpoint, str]:
    """Register a receiver of the session's tenant; returns its signing key, which is shown only once.

    Raises:
        TooManyEndpoints: the tenant already has `MAX_ENDPOINTS` endpoints.
    """
    wait_for(session, AdvisoryLock.ENDPOINTS)
    own = WebhookEndpoint.tenant == tenant_of(session)
    count = session.scalars(select(func.count()).select_from(WebhookEndpoint).where(own)).one()
    if count >= MAX_ENDPOINTS:
        raise TooManyEndpoints(
            f"There are {count} endpoints; the limit is {MAX_ENDPOINTS}.", limit=MAX_ENDPOINTS, value=count
        )
    endpoint = WebhookEndpoint(
        id=ENDPOINT.new(),
        url=url,
        description=description,
        events=[str(event) for event in events],
        enabled=True,
        created_at=from_now(),
    )
    session.add(endpoint)
    session.flush()
    secret = add_secret(session, endpoint.id, endpoint.tenant)
    session.refresh(endpoint)
    return endpoint, secret


def every(session: Session) -> list[WebhookEndpoint]:
    """All endpoints, oldest first."""
    return list(session.scalars(select(WebhookEndpoint).order_by(WebhookEndpoint.id)))


def get(session: Session, endpoint_id: str) -> WebhookEndpoint:
    """One endpoint.

    Raises:
        EndpointNotFound: no endpoint has this id.
    """
    return _found(endpoint_id, session.get(WebhookEndpoint, ENDPOINT.checked(endpoint_id)))


def _found(endpoint_id: str, endpoint: WebhookEndpoint | None) -> WebhookEndpoint:
    if endpoint is None:
        raise ENDPOINT.unknown(endpoint_id)
    return endpoint


def held(session: Session, endpoint_id: str) -> WebhookEndpoint | None:
    """One endpoint, which cannot be deleted until this transaction ends, so that deliveries to it can be written."""
    return session.get(WebhookEndpoint, endpoint_id, with_for_update={"read": True, "key_share": True})


def locked(session: Session, endpoint_id: str | None) -> WebhookEndpoint | None:
    """One endpoint, locked against changes until this transaction ends; jobs may still end meanwhile."""
    if endpoint_id is None:
        return None
    return session.get(WebhookEndpoint, endpoint_id, with_for_update={"key_share": True})


def enabled(session: Session, endpoint_id: str) -> WebhookEndpoint:
    """One enabled endpoint, which stays so until this transaction ends.

    Raises:
        EndpointNotFound: no endpoint has this id.
        EndpointDisabled: the endpoint is disabled.
    """
    endpoint = _found(endpoint_id, held(session, ENDPOINT.checked(endpoint_id)))
    if not endpoint.enabled:
        raise EndpointDisabled(f"The endpoint {endpoint.id} is disabled; enable it first.")
    return endpoint


def change(session: Session, endpoint_id: str, values: dict[str, Any]) -> WebhookEndpoint:
    """Change the given fields of an endpoint; enabling it clears the reason why it was disabled."""
    endpoint = _found(endpoint_id, locked(session, ENDPOINT.checked(endpoint_id)))
    for name, value in values.items():
        setattr(endpoint, name, value)
    if endpoint.enabled:
        endpoint.disabled_reason = None
    return endpoint


def retire(session: Session, endpoint_id: str) -> None:
    """Disable an endpoint before its removal.

    Raises:
        EndpointNotFound: no endpoint has this id.
    """
    change(session, endpoint_id, {"enabled": False}).disabled_reason = "it is being removed"


def remove_deliveries(session: Session, endpoint_id: str) -> int:
    """Remove a batch of the deliveries to an endpoint; returns their number."""
    some = select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == endpoint_id).limit(BATCH)
    removed = delete_from(WebhookDelivery).where(WebhookDelivery.id.in_(some)).returning(WebhookDelivery.id)
    return len(session.scalars(removed.execution_options(synchronize_session=False)).all())


def delete(session: Session, endpoint_id: str) -> bool:
    """Remove an endpoint with its keys and the rest of its deliveries; returns False if it did not exist."""
    endpoint = session.get(WebhookEndpoint, endpoint_id, with_for_update=True)
    if endpoint is None:
        return False
    session.delete(endpoint)
    return True


def disable(session: Session, endpoint_id: str, *, url: str, reason: str) -> bool:
    """Disable an endpoint because its receiver refuses events; returns False if it no longer has this URL."""
    off = update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.url == url)
    disabled = off.values(enabled=False, disabled_reason=reason).returning(WebhookEndpoint.id)
    return session.scalar(disabled) is not None


def rotate(session: Session, endpoint_id: str | None, overlap_seconds: float = OVERLAP_SECONDS) -> str:
    """Create and return a new key; for a while the previous key signs as well, but older ones no longer do.

    Args:
        session: the transaction.
        endpoint_id: id of the endpoint; None: the key is for the `webhook_url` of jobs of the session's tenant.
        overlap_seconds: seconds in which both keys sign, for the receiver to change its key.
    """
    wait_for(session, AdvisoryLock.ENDPOINTS)
    tenant = tenant_of(session)
    if endpoint_id is not None:
        tenant = _found(endpoint_id, held(session, ENDPOINT.checked(endpoint_id))).tenant
    of = _of(endpoint_id, tenant)
    session.execute(delete_from(WebhookSecret).where(of, WebhookSecret.expires_at.is_not(None)))
    session.execute(update(WebhookSecret).where(of).values(expires_at=from_now(overlap_seconds)))
    return add_secret(session, endpoint_id, tenant)


def add_secret(session: Session, endpoint_id: str | None, tenant: str | None) -> str:
    secret = signing.new_secret()
    row = WebhookSecret(tenant=tenant, endpoint_id=endpoint_id, secret=sealing.TO_COME, created_at=from_now())
    session.add(row)
    session.flush()
    sealing.seal(session, row, secret)
    return secret


def secrets(session: Session, endpoint_id: str | None, tenant: str) -> list[str]:
    """The keys that sign now, the current one first; the key for `webhook_url` is created on first use.

    Args:
        session: the transaction.
        endpoint_id: id of the endpoint; None: the keys are for the `webhook_url` of jobs.
        tenant: tenant of the jobs.
    """
    valid = or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > from_now())
    query = select(WebhookSecret).where(_of(endpoint_id, tenant), valid).order_by(WebhookSecret.id.desc())
    found = [sealing.read(session, row) for row in session.scalars(query)]
    if not found and endpoint_id is None:
        wait_for(session, AdvisoryLock.ENDPOINTS)
        found = [sealing.read(session, row) for row in session.scalars(query)] or [add_secret(session, None, tenant)]
    return found


def _of(endpoint_id: str | None, tenant: str | None) -> Any:
    own = WebhookSecret.tenant == tenant
    of_jobs = WebhookSecret.endpoint_id.is_(None)
    return and_(own, of_jobs if endpoint_id is None else WebhookSecret.endpoint_id == endpoint_id)


#: runs at the end of every job
ENABLED = (
    select(WebhookEndpoint)
    .where(WebhookEndpoint.tenant == bindparam("tenant"), WebhookEndpoint.enabled.is_(True))
    .order_by(WebhookEndpoint.id)
    .with_for_update(read=True, key_share=True)
)


def targets(session: Session, tenant: str, type_: str, webhook_url: str | None) -> list[Target]:
    """All receivers of an event of a tenant; if an endpoint has the same URL as the job, it gets the event once.

    They cannot be deleted until this transaction ends.
    """
    every = session.scalars(ENABLED, {"tenant": tenant})
    found = [Target(endpoint_id=each.id, url=each.url) for each in every if takes(each, type_)]
    if webhook_url and webhook_url not in {target.url for target in found}:
        found.append(Target(endpoint_id=None, url=webhook_url))
    return found


def takes(endpoint: WebhookEndpoint, type_: str) -> bool:
    """Whether an endpoint wants events of this type."""
    return not endpoint.events or type_ in endpoint.events or type_ == EventType.TEST
