"""API keys over HTTP."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path

from app.errors import InvalidParameter
from app.models import Scope
from app.routers.access import CurrentPrincipal, needs, rows_of
from app.routers.dependencies import CurrentResources, OtherTenant
from app.routers.openapi import problems
from app.schemas import ApiKeyList, ApiKeyView, ApiKeyWithSecret, NewApiKey
from app.services.access import keys
from app.services.access.audit import Audited

router = APIRouter(tags=["keys"], dependencies=[needs(Scope.KEYS_WRITE)])

KeyId = Annotated[str, Path(description="Id of the key.", json_schema_extra={"pattern": keys.ID})]


@router.post("/keys", status_code=201, summary="Make an API key", responses=problems(404, 422))
async def create_key(new: NewApiKey, principal: CurrentPrincipal, resources: CurrentResources) -> ApiKeyWithSecret:
    """The answer has the key, which is not shown again. Once there is a key, requests without one are refused."""
    principal.require(*new.scopes)
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise InvalidParameter("The key would have expired already.", pointer="#/expires_at")
    rows = rows_of(principal, resources, new.tenant)
    wanted = keys.NewKey(
        tenant=rows.tenant,
        scopes=frozenset(new.scopes),
        description=new.description,
        expires_at=new.expires_at,
        created_by=principal.key_id,
    )
    created = Audited(
        principal=principal,
        action="key.created",
        subject=lambda made: made[0].id,
        details=lambda made: {"scopes": made[0].scopes, "description": made[0].description},
    )
    key, text = await rows.call(created, keys.create, wanted)
    resources.door.forget()
    return ApiKeyWithSecret(**ApiKeyView.model_validate(key).model_dump(), key=text)


@router.head("/keys", include_in_schema=False)
@router.get("/keys", summary="Every key of the tenant, revoked and expired ones included", responses=problems(422))
async def list_keys(principal: CurrentPrincipal, resources: CurrentResources, tenant: OtherTenant = None) -> ApiKeyList:
    found = await rows_of(principal, resources, tenant).read(keys.every)
    return ApiKeyList(data=[ApiKeyView.model_validate(key) for key in found])


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key", responses=problems(404))
async def revoke_key(
    key_id: KeyId, principal: CurrentPrincipal, resources: CurrentResources, tenant: OtherTenant = None
) -> None:
    """Every process refuses the key after at most 5 seconds; it stays listed."""
    revoked = Audited(principal=principal, action="key.revoked", subject=lambda key: key.id)
    await rows_of(principal, resources, tenant).call(revoked, keys.revoke, key_id)
    resources.door.forget()
