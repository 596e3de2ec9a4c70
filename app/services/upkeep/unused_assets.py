"""Removes the files of assets when no name and no job needs them any more."""

from sqlalchemy import ColumnElement, delete, exists, select, tuple_
from sqlalchemy.orm import Session

from app.database import from_now
from app.models import Asset, AssetObject, JobAsset
from app.services.storage.keys import asset_key
from app.services.storage.object_store import ObjectStore

BATCH = 50  # files in one transaction
GRACE_SECONDS = 3600.0  # longer than any request takes from reading a name to its job, or from a file to its name


def _unused() -> ColumnElement[bool]:
    of_name = exists().where(Asset.tenant == AssetObject.tenant, Asset.sha256 == AssetObject.sha256)
    of_job = exists().where(JobAsset.tenant == AssetObject.tenant, JobAsset.sha256 == AssetObject.sha256)
    return ~of_name & ~of_job


def remove_unused_assets(session: Session, storage: ObjectStore) -> int:
    """Remove a batch of unused files; returns their number.

    Raises:
        StoreUnavailable: the storage cannot delete objects now.
    """
    key = tuple_(AssetObject.tenant, AssetObject.sha256)
    columns = select(AssetObject.tenant, AssetObject.sha256)
    old = columns.where(AssetObject.touched_at < from_now(-GRACE_SECONDS), _unused()).limit(BATCH)
    locked = [tuple(row) for row in session.execute(old.with_for_update(skip_locked=True))]
    # Uses that were written between the query and its locks show only in a second query; from here on none can come
    unused = [tuple(row) for row in session.execute(columns.where(key.in_(locked), _unused()))] if locked else []
    for tenant, sha256 in unused:
        storage.delete(asset_key(tenant, sha256))
    if unused:
        session.execute(delete(AssetObject).where(key.in_(unused)).execution_options(synchronize_session=False))
    return len(unused)
