"""Assets: images and fonts that operation trees refer to by name, stored by the hash of their content.

A name may be reassigned to another file at any time. A job keeps using the file with which it was accepted, also when
it is retried, so a file is kept until no name and no job needs it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import fonts
from app.database import Database, from_now, insertion, tenant_of
from app.errors import (
    AssetInUse,
    AssetNotFound,
    InvalidOperations,
    InvalidParameter,
    InvalidUpload,
    LimitExceeded,
    ObjectNotFound,
    TooManyAssets,
    UnsupportedAsset,
    UnsupportedImage,
)
from app.formats import FORMATS
from app.imaging.probe import ImageHeader, probe
from app.models import JOB_OPEN, Asset, AssetObject, Job, JobAsset
from app.operations import AssetKind
from app.parameters import AssetName
from app.services.access import limits as tenant_limits
from app.services.access.audit import Audited
from app.services.access.limits import TenantLimits
from app.services.access.principal import Principal
from app.services.dag_builder import Node
from app.services.intake.uploads import Gate, Upload, discard, receive_file
from app.services.intake.validation import short
from app.services.storage.keys import asset_key, shared_asset_key
from app.services.storage.object_store import ObjectStore
from app.tenancy import DEFAULT_TENANT

MAX_ASSETS = 1000  # per tenant
WHOLE = "#"  # the pointer to the whole body, which is the file

_name: TypeAdapter[str] = TypeAdapter(AssetName)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The properties of a stored file."""

    kind: AssetKind
    content_type: str
    width: int | None = None
    height: int | None = None


def inspect(file: BinaryIO, check_image: Callable[[ImageHeader], None]) -> Facts:
    """Determine the kind of a file, from its header or, for a font, from its tables.

    Args:
        file: the file, at any position.
        check_image: raises for images that are too large.

    Raises:
        UnsupportedAsset: the file is neither an image nor a font.
        InvalidUpload: the file is damaged.
        LimitExceeded: the image is too large.
    """
    file.seek(0)
    media_type = fonts.media_type(file.read(4))
    file.seek(0)
    if media_type is not None:
        fonts.check(file.read())
        return Facts(kind=AssetKind.FONT, content_type=media_type)
    try:
        header = probe(file)
        check_image(header)
    except UnsupportedImage:
        raise UnsupportedAsset(pointer=WHOLE) from None
    except (InvalidUpload, LimitExceeded) as error:
        error.pointer = WHOLE
        raise
    media_type = FORMATS[header.format].media_type
    return Facts(kind=AssetKind.IMAGE, content_type=media_type, width=header.width, height=header.height)


def checked_name(name: str) -> str:
    """Check the name of an asset, which is returned.

    Raises:
        InvalidParameter: the name is not valid.
    """
    try:
        return _name.validate_python(name)
    except ValidationError:
        rule = "1 to 100 letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
        detail = f"The name of an asset is {rule}."
        raise InvalidParameter(detail, pointer="#/path/name", limit=100, value=short(name)) from None


def find(session: Session, names: Collection[str]) -> dict[str, Asset]:
    """The assets with these names, as far as they exist, by name."""
    return {asset.name: asset for asset in session.scalars(select(Asset).where(Asset.name.in_(names)))}


def get(session: Session, name: str) -> Asset:
    """One asset.

    Raises:
        AssetNotFound: no asset has this name.
    """
    asset = session.scalar(select(Asset).where(Asset.name == name))
    if asset is None:
        raise AssetNotFound(f"There is no asset {name[:64]!r}.", value=name[:64])
    return asset


def every(session: Session) -> list[Asset]:
    """All assets by name."""
    return list(session.scalars(select(Asset).order_by(Asset.name)))


def reserve(session: Session, name: str, sha256: str, bytes_: int, limits: TenantLimits) -> None:
    """Record a file before it is stored, so that it is not removed as unused meanwhile.

    Args:
        session: one transaction of a tenant.
        name: the name that the file will get.
        sha256: hash of the file.
        bytes_: size of the file.
        limits: defaults for tenants without limits of their own.

    Raises:
        StorageLimitReached: the file exceeds the rest of the storage limit.
        TooManyAssets: the tenant has reached the limit on assets.
    """
    others = session.scalar(select(func.count()).select_from(Asset).where(Asset.name != name)) or 0
    if others >= MAX_ASSETS:
        raise TooManyAssets(
            f"There are {others} assets; the limit is {MAX_ASSETS}. Delete some.", limit=MAX_ASSETS, value=others
        )
    tenant = tenant_of(session)
    values = {"tenant": tenant, "sha256": sha256, "bytes": bytes_, "touched_at": from_now()}
    row = insertion(session, AssetObject).values(**values).on_conflict_do_nothing().returning(AssetObject.sha256)
    if session.connection().execute(row).first() is not None:
        tenant_limits.store(session, str(tenant), limits, bytes_)
    else:
        _touch(session, sha256)


def _touch(session: Session, sha256: str) -> None:
    session.execute(update(AssetObject).where(AssetObject.sha256 == sha256).values(touched_at=from_now()))


def name_file(session: Session, name: str, upload: Upload, facts: Facts) -> tuple[Asset, bool]:
    """Assign a name to a stored file; returns the asset, and whether the name is new."""
    old = session.scalar(select(Asset.sha256).where(Asset.name == name).with_for_update())
    values = {**facts.__dict__, "sha256": upload.sha256, "bytes": upload.size, "updated_at": from_now()}
    row = insertion(session, Asset).values(tenant=tenant_of(session), name=name, **values)
    session.connection().execute(row.on_conflict_do_update(index_elements=["tenant", "name"], set_=values))
    if old is not None and old != upload.sha256:
        _touch(session, old)
    return get(session, name), old is None


def remove(session: Session, name: str) -> None:
    """Remove an asset; its file is removed later, when no job needs it any more.

    Raises:
        AssetNotFound: no asset has this name.
        AssetInUse: an unfinished job uses the asset.
    """
    asset = get(session, name)
    using = select(JobAsset.job_id).join(Job, Job.id == JobAsset.job_id).limit(1)
    job_id = session.scalar(using.where(JobAsset.sha256 == asset.sha256, Job.status.in_(JOB_OPEN)))
    if job_id is not None:
        detail = f"The job {job_id} has not ended and uses {name!r}; wait for it, or cancel it."
        raise AssetInUse(detail, value=name, extra={"job_id": str(job_id)})
    _touch(session, asset.sha256)
    session.delete(asset)


@dataclass(frozen=True, kw_only=True)
class Assets:
    """The service that stores assets."""

    database: Database
    storage: ObjectStore
    spool: Path
    check_room: Callable[[], None]
    check_image: Callable[[ImageHeader], None]
    max_bytes: int
    #: defaults for tenants without limits of their own
    limits: TenantLimits
    _gate: Gate = field(default_factory=Gate)

    async def put(self, name: str, body: AsyncIterator[bytes], principal: Principal) -> tuple[Asset, bool]:
        """Store a file under a name; returns the asset, and whether the name is new.

        Raises:
            PixToolsError: the file is refused; an existing asset is unchanged.
        """
        checked_name(name)
        await asyncio.to_thread(self.spool.mkdir, parents=True, exist_ok=True)
        upload = await receive_file(body, self.max_bytes, self.spool, self._gate, self.check_room)
        try:
            return await self._put(name, upload, principal)
        finally:
            discard(upload.file)

    async def _put(self, name: str, upload: Upload, principal: Principal) -> tuple[Asset, bool]:
        facts = await asyncio.to_thread(inspect, upload.file, self.check_image)
        rows = self.database.of(principal.tenant)
        there = (await rows.read(find, [name])).get(name)
        if there is not None and there.sha256 == upload.sha256:
            return there, False
        await rows.call(reserve, name, upload.sha256, upload.size, self.limits)
        await self.storage.upload_raw(asset_key(principal.tenant, upload.sha256), upload.file)
        stored = Audited(
            principal=principal,
            action="asset.stored",
            subject=lambda _: name,
            details=lambda _: {"sha256": upload.sha256},
        )
        return await rows.call(stored, name_file, name, upload, facts)

    async def bind(self, branches: Iterable[Node], tenant: str) -> tuple[tuple[str, str], ...]:
        """The name and hash of every asset that a tree refers to.

        Raises:
            InvalidOperations: an asset does not exist, or is of the wrong kind.
        """
        named = [
            (node, parameter, name)
            for branch in branches
            for node in branch.walk()
            for parameter in node.operation.assets
            if (name := getattr(node.params, parameter)) is not None
        ]
        if not named:
            return ()
        found = await self._found({name for _, _, name in named}, tenant)
        mistakes = [mistake for each in named if (mistake := _mistake(*each, found)) is not None]
        if mistakes:
            raise InvalidOperations(mistakes, code="unknown_asset")
        return tuple(sorted((name, found[name].sha256) for name in {name for _, _, name in named}))

    async def _found(self, names: set[str], tenant: str) -> dict[str, Asset]:
        found = await self.database.of(tenant).read(find, names)
        if tenant == DEFAULT_TENANT:
            for name in names - found.keys():
                if (adopted := await self._adopt(name)) is not None:
                    found[name] = adopted
        return found

    async def _adopt(self, name: str) -> Asset | None:
        """Turn a file that an earlier version stored for all tenants into an asset of the default tenant."""
        if await self.storage.size(shared_asset_key(name)) is None:
            return None
        chunks = self.storage.stream(shared_asset_key(name))
        try:
            asset, _ = await self.put(name, chunks, Principal(tenant=DEFAULT_TENANT, key_id=None, scopes=frozenset()))
        except ObjectNotFound:
            return None
        return asset


def _mistake(node: Node, parameter: str, name: str, found: dict[str, Asset]) -> dict[str, Any] | None:
    pointer, operation = f"{node.pointer}/{parameter}", node.operation.name
    about = {"pointer": pointer, "code": "unknown_asset", "value": name}
    if name not in found:
        return {"detail": f"{operation}: there is no asset {name!r}.", **about}
    wanted, kind = node.operation.assets[parameter], found[name].kind
    if kind != wanted:
        return {"detail": f"{operation}: `{parameter}` needs a stored {wanted}; {name!r} is of kind {kind}.", **about}
    return None
