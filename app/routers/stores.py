"""Stores over HTTP: connections to buckets that jobs take their inputs from."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.errors import StoreNotFound
from app.models import Scope
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import CurrentResources
from app.routers.openapi import STORE_RESPONSES, problems
from app.schemas import NewStore, StoreList, StoreView
from app.services import stores
from app.services.access.audit import Audited
from app.services.storage.destinations import Connection, check_answers

router = APIRouter(tags=["stores"])
READ, WRITE = [needs(Scope.JOBS_READ)], [needs(Scope.STORES_WRITE)]

StoreName = Annotated[
    str, Path(description="Name of the store.", json_schema_extra={"pattern": f"^{stores.NAME.pattern}$"})
]


@router.put("/stores/{store}", dependencies=WRITE, summary="Save a connection to a bucket", responses=STORE_RESPONSES)
async def put_store(
    store: StoreName,
    new: NewStore,
    resources: CurrentResources,
    own: Own,
    principal: CurrentPrincipal,
    response: Response,
) -> StoreView:
    """The connection is tried at once. If the bucket is missing or denies access, it is not saved. Credentials are
    encrypted, and never shown again."""
    if not stores.NAME.fullmatch(store):
        raise StoreNotFound(
            f"{store[:64]!r} is not the name of a store: names have lower-case letters, digits and `-`."
        )
    wanted = Connection(
        url=new.url,
        endpoint=new.endpoint,
        region=new.region or resources.settings.s3_region,
        credentials=new.credentials,
    )
    connection = stores.checked(wanted, resources.settings.store_endpoints)
    await asyncio.to_thread(check_answers, connection)
    saved = Audited(
        principal=principal,
        action="store.saved",
        subject=lambda made: made[0].name,
        details=lambda made: {"url": made[0].url},
    )
    found, is_new = await own.call(saved, stores.put, store, connection)
    if is_new:
        response.status_code = 201
        response.headers["Location"] = f"/stores/{store}"
    return StoreView.model_validate(found)


@router.head("/stores", dependencies=READ, include_in_schema=False)
@router.get("/stores", dependencies=READ, summary="Every store")
async def list_stores(own: Own) -> StoreList:
    return StoreList(data=[StoreView.model_validate(store) for store in await own.read(stores.every)])


@router.head("/stores/{store}", dependencies=READ, include_in_schema=False)
@router.get("/stores/{store}", dependencies=READ, summary="One store", responses=problems(404))
async def get_store(store: StoreName, own: Own) -> StoreView:
    return StoreView.model_validate(await own.read(stores.get, store))


@router.delete(
    "/stores/{store}", dependencies=WRITE, status_code=204, summary="Delete a store", responses=problems(404)
)
async def delete_store(store: StoreName, own: Own, principal: CurrentPrincipal) -> None:
    """The bucket stays as it is. Jobs that still need it fail."""
    deleted = Audited(principal=principal, action="store.deleted", subject=lambda name: name)
    await own.call(deleted, stores.delete, store)
