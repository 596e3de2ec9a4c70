"""Erases a tenant: first everything that it owns, and then the tenant itself."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, tuple_
from sqlalchemy.orm import Session

from app.database import Base, Database, rows_changed
from app.errors import TenantStays
from app.models import (
    ApiKey,
    Asset,
    AssetObject,
    AuditEntry,
    DeadLetter,
    Event,
    IdempotencyKey,
    Job,
    JobTombstone,
    Result,
    Store,
    Template,
    TemplateVersion,
    TenantRecord,
    TenantTurn,
    UsageDay,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from app.services import jobs
from app.services.access import audit, tenants
from app.services.storage.keys import asset_prefix, job_prefix
from app.services.storage.object_store import ObjectStore
from app.tenancy import DEFAULT_TENANT

BATCH = 50  # jobs in one transaction
ROWS = 500  # rows of another kind in one transaction
#: the rows to count and delete, in this order: rows come before the rows to which they refer
KINDS: tuple[tuple[str, type[Base], Any], ...] = (
    ("deliveries", WebhookDelivery, WebhookDelivery.id),
    ("events", Event, Event.id),
    ("secrets", WebhookSecret, WebhookSecret.id),
    ("endpoints", WebhookEndpoint, WebhookEndpoint.id),
    ("stores", Store, Store.id),
    ("dead letters", DeadLetter, DeadLetter.id),
    ("tombstones", JobTombstone, JobTombstone.job_id),
    ("idempotency keys", IdempotencyKey, tuple_(IdempotencyKey.tenant, IdempotencyKey.key)),
    ("versions of templates", TemplateVersion, tuple_(TemplateVersion.name, TemplateVersion.version)),
    ("templates", Template, Template.name),
    ("assets", Asset, Asset.name),
    ("API keys", ApiKey, ApiKey.id),
    ("days of usage", UsageDay, tuple_(UsageDay.day, UsageDay.key_id, UsageDay.template)),
    ("audit entries", AuditEntry, AuditEntry.id),
)


def erase(database: Database, storage: ObjectStore, name: str) -> Counter[str]:
    """Erase a tenant; returns the number of rows by kind. After an interruption, simply call it again.

    Raises:
        TenantNotFound: no tenant has this name.
        TenantStays: the tenant of requests without a key cannot be erased.
        StoreUnavailable: the storage cannot delete objects now.
    """
    if name == DEFAULT_TENANT:
        raise TenantStays
    erased: Counter[str] = Counter()
    with database.session() as session:
        tenants.retire(session, name)
    while _erase_jobs(database, storage, name, erased):
        pass
    for kind, table, key in KINDS:
        while _in_transaction(database, name, _deletion(table, key), erased, kind):
            pass
    # jobs that were being accepted when the keys were revoked may have been written meanwhile
    while _erase_jobs(database, storage, name, erased):
        pass
    asyncio.run(storage.delete_prefix(asset_prefix(name)))
    with database.session() as session:
        for table in (UsageDay, AuditEntry, TenantTurn, AssetObject):  # rows that the last jobs and refusals have left
            session.execute(delete(table).where(table.tenant == name))
        session.execute(delete(TenantRecord).where(TenantRecord.name == name))
        audit.record(session, "tenant.deleted", name, tenant=DEFAULT_TENANT, details=dict(erased))
    return erased


def _erase_jobs(database: Database, storage: ObjectStore, name: str, erased: Counter[str]) -> bool:
    """Erase a batch of jobs: end them, so that workers write nothing more, then delete their objects and rows."""
    with database.session(tenant=name) as session:
        found = list(session.scalars(select(Job.id).order_by(Job.id).limit(BATCH)))
        results = session.scalar(select(func.count()).select_from(Result).where(Result.job_id.in_(found)))
        for job_id in found:
            jobs.stop(session, job_id)
    asyncio.run(_delete_objects(storage, found))
    with database.session(tenant=name) as session:
        session.execute(delete(Job).where(Job.id.in_(found)))
    # a worker may have stored an object in between; one that does so from now on removes it itself
    asyncio.run(_delete_objects(storage, found))
    erased.update({"jobs": len(found), "results": results or 0})
    return bool(found)


async def _delete_objects(storage: ObjectStore, job_ids: list[UUID]) -> None:
    await asyncio.gather(*(storage.delete_prefix(job_prefix(job_id)) for job_id in job_ids))


def _deletion(table: type[Base], key: ColumnElement[Any]) -> Callable[[Session], int]:
    columns = key.clauses if hasattr(key, "clauses") else (key,)

    def delete_some(session: Session) -> int:
        some = select(*columns).limit(ROWS)
        return rows_changed(session, delete(table).where(key.in_(some)).execution_options(synchronize_session=False))

    return delete_some


def _in_transaction(
    database: Database, name: str, delete_some: Callable[[Session], int], erased: Counter[str], kind: str
) -> bool:
    with database.session(tenant=name) as session:
        count = delete_some(session)
    erased[kind] += count
    return count > 0
