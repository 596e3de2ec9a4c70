"""Assets over HTTP: images and fonts that trees name."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.bodies import allow_body
from app.models import Scope
from app.parameters import ASSET_NAME
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import CurrentResources
from app.routers.openapi import ASSET_BODY, ASSET_RESPONSES, problems
from app.schemas import AssetList, AssetView
from app.services.access.audit import Audited
from app.services.intake import assets

router = APIRouter(tags=["assets"])
READ, WRITE = [needs(Scope.JOBS_READ)], [needs(Scope.TEMPLATES_WRITE)]

NameOfAsset = Annotated[str, Path(description="Name in trees.", json_schema_extra={"pattern": ASSET_NAME})]


@router.put(
    "/assets/{asset_name}",
    dependencies=WRITE,
    summary="Store an image or a font, or replace it",
    openapi_extra={"requestBody": ASSET_BODY},
    responses=ASSET_RESPONSES,
)
async def put_asset(
    request: Request,
    asset_name: NameOfAsset,
    resources: CurrentResources,
    principal: CurrentPrincipal,
    response: Response,
) -> AssetView:
    """The body is the file itself. Jobs that were accepted earlier keep the file that the name meant then."""
    allow_body(request.scope, resources.settings.max_asset_bytes)
    asset, is_new = await resources.assets.put(asset_name, request.stream(), principal)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/assets/{asset_name}"
    return AssetView.model_validate(asset)


@router.head("/assets", dependencies=READ, include_in_schema=False)
@router.get("/assets", dependencies=READ, summary="All assets")
async def list_assets(own: Own) -> AssetList:
    return AssetList(data=[AssetView.model_validate(asset) for asset in await own.read(assets.every)])


@router.head("/assets/{asset_name}", dependencies=READ, include_in_schema=False)
@router.get("/assets/{asset_name}", dependencies=READ, summary="One asset", responses=problems(404))
async def get_asset(asset_name: NameOfAsset, own: Own) -> AssetView:
    return AssetView.model_validate(await own.read(assets.get, asset_name))


@router.delete(
    "/assets/{asset_name}",
    dependencies=WRITE,
    status_code=204,
    summary="Delete an asset",
    responses=problems(404, 409),
)
async def delete_asset(asset_name: NameOfAsset, own: Own, principal: CurrentPrincipal) -> None:
    """409 while an unfinished job uses it. Jobs that have ended can still be retried."""
    deleted = Audited(principal=principal, action="asset.deleted", subject=lambda _: asset_name)
    await own.call(deleted, assets.remove, asset_name)
