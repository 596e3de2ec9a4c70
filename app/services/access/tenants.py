"""Tenants, who share the service without seeing each other."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import from_now
from app.errors import InvalidTenantName, TenantExists, TenantNotFound
from app.models import TenantRecord
from app.tenancy import TENANT_NAME


def checked_name(name: str) -> str:
    """Check the name of a tenant, which is returned.

    Raises:
        InvalidTenantName: the name is not valid.
    """
    if not re.fullmatch(TENANT_NAME, name):
        raise InvalidTenantName(value=name[:64])
    return name


def create(session: Session, name: str) -> TenantRecord:
    """Make a tenant.

    Raises:
        InvalidTenantName: the name is not valid.
        TenantExists: there is already a tenant with this name.
    """
    if session.get(TenantRecord, checked_name(name)) is not None:
        raise TenantExists(f"There is a tenant {name!r} already.", value=name)
    tenant = TenantRecord(name=name, created_at=from_now())
    session.add(tenant)
    session.flush()
    session.refresh(tenant)
    return tenant


def get(session: Session, name: str) -> TenantRecord:
    """One tenant.

    Raises:
        TenantNotFound: no tenant has this name, or the tenant is being erased.
    """
    tenant = session.get(TenantRecord, name) if re.fullmatch(TENANT_NAME, name) else None
    if tenant is None or tenant.deleted_at is not None:
        raise TenantNotFound(f"There is no tenant {name[:64]!r}; `pixtools tenants create` makes one.", value=name[:64])
    return tenant


def every(session: Session) -> list[TenantRecord]:
    """All tenants by name."""
    return list(session.scalars(select(TenantRecord).order_by(TenantRecord.name)))


def retire(session: Session, name: str) -> None:
    """Begin to erase a tenant, whose keys are refused from now on; a tenant that is already being erased is unchanged.

    Raises:
        TenantNotFound: no tenant has this name.
    """
    tenant = session.get(TenantRecord, name, with_for_update=True) if re.fullmatch(TENANT_NAME, name) else None
    if tenant is None:
        raise TenantNotFound(f"There is no tenant {name[:64]!r}.", value=name[:64])
    if tenant.deleted_at is None:
        tenant.deleted_at = from_now()


def change(session: Session, tenant: TenantRecord, *, templates_only: bool | None = None) -> None:
    """Restrict a tenant to templates, or lift that restriction; None changes nothing."""
    if templates_only is not None:
        tenant.templates_only = templates_only
        session.flush()
