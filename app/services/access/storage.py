"""The amount that tenants have stored, measured at intervals. In between, accepted uploads are added at once.

Results count from the next measurement on, and deleted objects count until then.
"""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.database import Database, from_now
from app.models import AssetObject, Counter, Job, Result, TenantRecord

COUNTER = "storage"  # the time of the last measurement, in seconds since 1970


def is_due(session: Session, every_seconds: float) -> bool:
    """Whether the last measurement is old; only one process gets True, and has to make the next one."""
    now = int(session.scalars(select(from_now())).one().timestamp())
    due = Counter.value <= now - int(every_seconds)
    taken = update(Counter).where(Counter.name == COUNTER, due).values(value=now).returning(Counter.name)
    return session.scalar(taken.execution_options(synchronize_session=False)) is not None


def _drift(session: Session) -> dict[str, int]:
    """The error of each tenant's figure, by one statement, so that figures and rows are of the same moment."""
    uploads = select(Job.tenant, func.sum(Job.input_bytes).label("bytes")).group_by(Job.tenant).subquery()
    results = (
        select(Job.tenant, func.sum(Result.bytes).label("bytes"))
        .join(Result, Result.job_id == Job.id)
        .group_by(Job.tenant)
        .subquery()
    )
    assets = (
        select(AssetObject.tenant, func.sum(AssetObject.bytes).label("bytes")).group_by(AssetObject.tenant).subquery()
    )
    kinds = (uploads, results, assets)
    stored: Any = sum(func.coalesce(kind.c.bytes, 0) for kind in kinds)
    query = select(TenantRecord.name, stored - TenantRecord.stored_bytes)
    for kind in kinds:
        query = query.outerjoin(kind, kind.c.tenant == TenantRecord.name)
    return {name: int(drift) for name, drift in session.execute(query) if drift}


def _correct(session: Session, tenant: str, drift: int) -> None:
    corrected = TenantRecord.stored_bytes + drift
    session.execute(update(TenantRecord).where(TenantRecord.name == tenant).values(stored_bytes=corrected))


def measure(database: Database) -> None:
    """Measure the storage of all tenants; uploads that are accepted meanwhile still count.

    The row of a tenant is locked only for its own update.
    """
    with database.session(read_only=True) as session:
        drift = _drift(session)
    for tenant, bytes_ in drift.items():
        with database.session() as session:
            _correct(session, tenant, bytes_)
