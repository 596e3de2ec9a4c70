"""Who may use a route: each one declares the scope that it needs, or that it needs none, in one way."""

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

#: for the description alone; `Door` reads the header
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
    """Take one of the requests that a tenant has left; the answer shows how many there are.

    Raises:
        RateLimited: there is none.
    """
    limit = principal.requests_per_minute or resources.tenant_limits.requests_per_minute
    taken = await resources.rates.take(principal.tenant, limit)
    request.scope[RATE_HEADERS] = [(name.lower().encode(), value.encode()) for name, value in taken.headers.items()]
    taken.check()


def needs(scope: Scope) -> Any:
    """The declaration of a route that a key with this scope may use."""
    return Security(_admit, scopes=[scope.value])


async def _admit_all(request: Request) -> None:
    await only_known_parameters(request)


#: the declaration of a route that everybody may use
ANYBODY = Depends(_admit_all)


async def _admit_operator(
    request: Request, resources: CurrentResources, needed: SecurityScopes, _: Annotated[Any, Depends(KEY)]
) -> None:
    if is_operators_port(request.scope, resources.settings.metrics_port):
        await only_known_parameters(request)
    else:
        await _let_in(request, resources, needed, await resources.door.operator(request.scope))


#: the declaration of a route for the operator, who may also have a port for it
OPERATOR = Security(_admit_operator, scopes=[Scope.ADMIN.value])


async def _admit_link(
    request: Request, resources: CurrentResources, needed: SecurityScopes, key: Annotated[Any, Depends(KEY)]
) -> None:
    if request.query_params.keys() & LINK:
        request.state.principal = None
        await only_known_parameters(request)
    else:
        await _admit(request, resources, needed, key)


#: of the query of a signed link; the route checks it
LINK = frozenset({"expires", "signature"})
#: the declaration of a route that a signed link opens as well
KEY_OR_LINK = Security(_admit_link, scopes=[Scope.JOBS_READ.value])

DECLARATIONS = frozenset({_admit, _admit_all, _admit_operator, _admit_link})


def check_declared(router: APIRouter) -> APIRouter:
    """Refuse to serve a route that does not declare who may use it.

    Raises:
        RuntimeError: names it.
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
    """The rows that a result is looked for in: a signed link opens the one that it names, whosever it is."""
    principal: Principal | None = request.state.principal
    return resources.database.of(principal.tenant) if principal else resources.database


def rows_of(principal: Principal, resources: Resources, tenant: str | None) -> TenantDatabase:
    """The rows of a tenant that a request names; without a name those of its own.

    Raises:
        MissingScope: it names another one, and is not the operator's.
        InvalidTenantName: it names what is none.
    """
    if tenant is not None and tenant != principal.tenant:
        principal.require(Scope.ADMIN)
        tenants.checked_name(tenant)
    return resources.database.of(tenant or principal.tenant)


#: who a request comes from, of a route that `needs` a scope
CurrentPrincipal = Annotated[Principal, Depends(_principal)]
#: the rows that its tenant owns
Own = Annotated[TenantDatabase, Depends(_own)]
#: the same, of a route that a signed link opens as well
OwnOrLinked = Annotated[TenantDatabase | Database, Depends(_own_or_linked)]
