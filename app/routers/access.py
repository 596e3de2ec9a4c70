"""Access to routes: each route declares the scope that it needs, or that it needs none."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer, SecurityScopes

from app import tracing
from app.database import Database, TenantDatabase
from app.models import Scope
from app.routers.dependencies import CurrentResources, only_known_parameters
from app.services.access import tenants
from app.services.access.door import is_operators_port
from app.services.access.principal import Principal
from app.services.access.rates import RATE_HEADERS
from app.wiring import Resources

#: only for the OpenAPI document; `Door` reads the header
KEY = HTTPBearer(
    scheme_name="key",
    bearerFormat="pxt_…",
    description="An API key. Until the first key is made, requests from the same machine need none.",
    auto_error=False,
)


async def _admit(
    request: Request, resources: CurrentResources, needed: SecurityScopes, _: Annotated[Any, Depends(KEY)]
) -> None:
    await _let_in(request, resources, needed, await resources.door.principal(request.scope))


async def _let_in(request: Request, resources: Resources, needed: SecurityScopes, principal: Principal) -> None:
    request.state.principal = principal
    tracing.bind(tenant=principal.tenant)
    await _count(request, resources, principal)
    principal.require(*map(Scope, needed.scopes))
    await only_known_parameters(request)


async def _count(request: Request, resources: Resources, principal: Principal) -> None:
    """Count a request against the tenant's rate limit, and set the headers of the rate limit.

    Raises:
        RateLimited: the tenant has reached the limit.
    """
    limit = principal.requests_per_minute or resources.tenant_limits.requests_per_minute
    taken = await resources.rates.take(principal.tenant, limit)
    request.scope[RATE_HEADERS] = [(name.lower().encode(), value.encode()) for name, value in taken.headers.items()]
    taken.check()


def needs(scope: Scope) -> Any:
    """The declaration of a route that needs a key with this scope."""
    return Security(_admit, scopes=[scope.value])


async def _admit_all(request: Request) -> None:
    await only_known_parameters(request)


#: the declaration of a public route
ANYBODY = Depends(_admit_all)


async def _admit_operator(
    request: Request, resources: CurrentResources, needed: SecurityScopes, _: Annotated[Any, Depends(KEY)]
) -> None:
    if is_operators_port(request.scope, resources.settings.metrics_port):
        await only_known_parameters(request)
    else:
        await _let_in(request, resources, needed, await resources.door.operator(request.scope))


#: the declaration of a route for the operator: with a key, or without one on the operator's port
OPERATOR = Security(_admit_operator, scopes=[Scope.ADMIN.value])


async def _admit_link(
    request: Request, resources: CurrentResources, needed: SecurityScopes, key: Annotated[Any, Depends(KEY)]
) -> None:
    if request.query_params.keys() & LINK:
        request.state.principal = None
        await only_known_parameters(request)
    else:
        await _admit(request, resources, needed, key)


#: query parameters of a signed link; the route checks the signature
LINK = frozenset({"expires", "signature"})
#: the declaration of a route that accepts a key or a signed link
KEY_OR_LINK = Security(_admit_link, scopes=[Scope.JOBS_READ.value])

DECLARATIONS = frozenset({_admit, _admit_all, _admit_operator, _admit_link})


def check_declared(router: APIRouter) -> APIRouter:
    """Check that every route has exactly one of these declarations.

    Raises:
        RuntimeError: a route has no declaration, or several.
    """
    for route in router.routes:
        declared = [each.call for each in route.dependant.dependencies] if isinstance(route, APIRoute) else []
        if sum(call in DECLARATIONS for call in declared) != 1:
            raise RuntimeError(f"{route} does not declare who may use it, or twice")
    return router


async def _principal(request: Request) -> Principal:
    return request.state.principal  # type: ignore[no-any-return]


async def _own(request: Request, resources: CurrentResources) -> TenantDatabase:
    return resources.database.of(request.state.principal.tenant)


async def _own_or_linked(request: Request, resources: CurrentResources) -> TenantDatabase | Database:
    """The rows in which to look up a result: those of the key's tenant, or all rows for a signed link."""
    principal: Principal | None = request.state.principal
    return resources.database.of(principal.tenant) if principal else resources.database


def rows_of(principal: Principal, resources: Resources, tenant: str | None) -> TenantDatabase:
    """The rows of the tenant that a request names, or of the request's own tenant if it names none.

    Raises:
        MissingScope: the request names another tenant, but its key is not the operator's.
        InvalidTenantName: the name is not valid.
    """
    if tenant is not None and tenant != principal.tenant:
        principal.require(Scope.ADMIN)
        tenants.checked_name(tenant)
    return resources.database.of(tenant or principal.tenant)


#: the principal of a request, for routes that `needs` a scope
CurrentPrincipal = Annotated[Principal, Depends(_principal)]
#: the rows of the request's tenant
Own = Annotated[TenantDatabase, Depends(_own)]
#: the same, for routes that accept a signed link
OwnOrLinked = Annotated[TenantDatabase | Database, Depends(_own_or_linked)]
