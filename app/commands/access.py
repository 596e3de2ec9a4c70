"""`pixtools keys | server keys | server tenants`: API keys and tenants."""

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.commands.common import Server, current_settings, database, opened, storage, transaction
from app.commands.printing import say, warn

database_keys_app = typer.Typer(
    help="API keys, in the database of the PIXTOOLS_ settings. Once there is a key, every request needs one.",
    no_args_is_help=True,
)
tenants_app = typer.Typer(
    help="Tenants, in the database of the PIXTOOLS_ settings: users of the service who cannot see each other's data.",
    no_args_is_help=True,
)

USUAL_SCOPES = ("jobs:write", "jobs:read", "templates:write", "stores:write", "webhooks:write", "keys:write")
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and `-`.")]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(help="Scope of the key; can be given several times; default: all scopes except `admin`."),
]
DescriptionOption = Annotated[str, typer.Option(help="A note for people.")]
DaysOption = Annotated[float | None, typer.Option(min=0.0001, help="Days until the key expires; default: never.")]


@database_keys_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Tenant that the key is for.")] = "default",
    scope: ScopeOption = None,
    description: DescriptionOption = "",
    days: DaysOption = None,
) -> None:
    """Make a key and print it; it is shown only once."""
    from app.errors import PixToolsError
    from app.models import Scope
    from app.services.access import audit, keys

    unknown = sorted(set(scope or []) - set(Scope))
    if unknown:
        raise typer.BadParameter(f"There is no scope {unknown[0]!r}; the scopes are {', '.join(Scope)}.")
    scopes = frozenset(map(Scope, scope)) if scope else frozenset(Scope) - {Scope.ADMIN}
    wanted = keys.NewKey(
        tenant=tenant,
        scopes=scopes,
        description=description,
        expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
    )
    _prepare()
    try:
        with transaction() as session:
            key, text = keys.create(session, wanted)
            details = {"scopes": key.scopes, "description": key.description}
            audit.record(session, "key.created", key.id, tenant=tenant, details=details)
    except PixToolsError as error:
        raise SystemExit(error.message) from None
    warn(f"Key {key.id} of tenant {tenant}: {', '.join(key.scopes)}. It is shown only once.")
    say(text)


def _prepare() -> None:
    """Create the database of the single process: the first key may be made before the first start."""
    from app.migrations import upgrade

    settings = current_settings()
    if settings.embedded and not settings.database_url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        upgrade(settings.database)


@database_keys_app.command("list")
def list_keys(tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None) -> None:
    """List all keys, one per line: id, tenant, last use, state, scopes, description."""
    from app.services.access import keys

    with transaction(read_only=True) as session:
        for key in keys.every(session, tenant):
            used = f"{key.last_used_at:%Y-%m-%dT%H:%M}" if key.last_used_at else "never used"
            say(
                f"{key.id}  {key.tenant:<12}  {used:<16}  {keys.state_of(key):<8}  "
                f"{','.join(key.scopes)}  {key.description}".rstrip()
            )


@database_keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="Id of the key.")]) -> None:
    """Revoke a key; this takes effect within 5 seconds. Requests need a key even if none is left."""
    from app.errors import KeyNotFound
    from app.services.access import audit, keys

    try:
        with transaction() as session:
            key = keys.revoke(session, key_id)
            audit.record(session, "key.revoked", key_id, tenant=key.tenant)
    except KeyNotFound as error:
        raise SystemExit(error.message) from None


@tenants_app.command("create")
def create_tenant(name: Name) -> None:
    """Make a tenant; `pixtools keys create --tenant NAME` makes its keys."""
    from app.errors import PixToolsError
    from app.services.access import audit, tenants

    _prepare()
    try:
        with transaction() as session:
            tenants.create(session, name)
            audit.record(session, "tenant.created", name, tenant=name)
    except PixToolsError as error:
        raise SystemExit(error.message) from None


@tenants_app.command("list")
def list_tenants() -> None:
    """List all tenants, one per line: name, date of creation, number of valid keys."""
    from app.services.access import keys, tenants

    with transaction(read_only=True) as session:
        for tenant in tenants.every(session):
            valid = sum(keys.state_of(key) == "valid" for key in keys.every(session, tenant.name))
            state = "being erased" if tenant.deleted_at else f"{valid} keys"
            say(f"{tenant.name:<24}  {tenant.created_at:%Y-%m-%d}  {state}")


@tenants_app.command("delete")
def delete_tenant(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False
) -> None:
    """Erase a tenant with all its data, and print the number of rows by kind; running jobs are cancelled first."""
    from app.errors import PixToolsError
    from app.services.upkeep import erasure

    if not yes:
        typer.confirm(f"Erase every job, result, event, endpoint and key of {name!r}?", abort=True)
    try:
        erased = erasure.erase(database(), storage(), name)
    except PixToolsError as error:
        raise SystemExit(f"{error.message} The data erased so far is gone; repeat the command.") from None
    for kind, count in erased.items():
        say(f"{count:>8}  {kind}")


keys_app = typer.Typer(
    help="API keys: at a server if --server or PIXTOOLS_KEY is given, else in the database of the PIXTOOLS_ settings. "
    "Once there is a key, every request needs one.",
    no_args_is_help=True,
)
Tenant = Annotated[
    str | None, typer.Option(help="Tenant of the key; default: your own key's, or `default` in the database.")
]


def _is_remote(server: str | None) -> bool:
    return bool(server or os.environ.get("PIXTOOLS_KEY"))


@keys_app.command("create")
def create_key_anywhere(
    tenant: Tenant = None,
    scope: ScopeOption = None,
    description: DescriptionOption = "",
    days: DaysOption = None,
    server: Server = None,
) -> None:
    """Make a key and print it; it is shown only once."""
    if not _is_remote(server):
        create_key(tenant or "default", scope, description, days)
        return
    more = {"tenant": tenant} if tenant else {}
    if days:
        more["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with opened(server) as client:
        made = client.create_key(scope or USUAL_SCOPES, description=description, **more)
    warn(f"Key {made['id']} of tenant {made['tenant']}: {', '.join(made['scopes'])}.")
    say(made["key"])


@keys_app.command("list")
def list_keys_anywhere(
    tenant: Annotated[
        str | None, typer.Option(help="Only keys of this tenant; default: your own, or all in the database.")
    ] = None,
    server: Server = None,
) -> None:
    """List all keys, one per line: id, tenant, last use, state, scopes, description."""
    if not _is_remote(server):
        list_keys(tenant)
        return
    with opened(server) as client:
        for key in client.keys(tenant=tenant):
            used = (key["last_used_at"] or "never used")[:16]
            state = "revoked" if key["revoked_at"] else "expired" if _is_over(key["expires_at"]) else "valid"
            line = f"{key['id']}  {key['tenant']:<12}  {used:<16}  {state:<8}  {','.join(key['scopes'])}"
            say(f"{line}  {key['description']}".rstrip())


def _is_over(at: str | None) -> bool:
    return at is not None and datetime.fromisoformat(at) <= datetime.now(UTC)


@keys_app.command("revoke")
def revoke_key_anywhere(key_id: Annotated[str, typer.Argument(help="Id of the key.")], server: Server = None) -> None:
    """Revoke a key; this takes effect within 5 seconds. Requests need a key even if none is left."""
    if not _is_remote(server):
        revoke_key(key_id)
        return
    with opened(server) as client:
        client.revoke_key(key_id)
