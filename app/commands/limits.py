"""`pixtools tenants set`: the limits of one tenant, and whether it may only use templates."""

from typing import Annotated

import typer

from app.commands.common import transaction
from app.commands.printing import say

DEFAULT = "default"
SWITCH = {"yes": True, "no": False}

Value = Annotated[str | None, typer.Option(metavar="N|default", help="A number of 1 or more, or `default`.")]


def set_limits(
    name: Annotated[str, typer.Argument(help="Name of the tenant.")],
    requests_per_minute: Value = None,
    max_open_jobs: Value = None,
    max_bytes_per_day: Value = None,
    max_pixels_per_day: Value = None,
    max_storage_bytes: Value = None,
    max_keep_seconds: Value = None,
    templates_only: Annotated[
        str | None,
        typer.Option(metavar="yes|no", help="Whether the tenant's jobs must name templates and may not send trees."),
    ] = None,
) -> None:
    """Set a tenant's own limits, or remove them with `default`; print the limits that apply."""
    from app.commands.common import current_settings
    from app.errors import PixToolsError
    from app.services.access import audit, limits, tenants
    from app.wiring import Resources

    given = {
        "requests_per_minute": requests_per_minute,
        "max_open_jobs": max_open_jobs,
        "max_bytes_per_day": max_bytes_per_day,
        "max_pixels_per_day": max_pixels_per_day,
        "max_storage_bytes": max_storage_bytes,
        "max_keep_seconds": max_keep_seconds,
    }
    values = {limit: _number(limit, text) for limit, text in given.items() if text is not None}
    only = {} if templates_only is None else {"templates_only": _switch(templates_only)}
    usual = Resources(current_settings()).tenant_limits
    try:
        with transaction() as session:
            tenant = tenants.get(session, name)
            if values or only:
                limits.change(session, tenant, values)
                tenants.change(session, tenant, **only)
                audit.record(session, "tenant.changed", name, tenant=name, details={**values, **only})
            own = usual.of(tenant)
            for limit in limits.NAMES:
                default = "" if getattr(tenant, limit) is not None else "  (default)"
                say(f"{limit:<20} {getattr(own, limit)}{default}")
            say(f"{'templates_only':<20} {'yes' if tenant.templates_only else 'no'}")
    except PixToolsError as error:
        raise SystemExit(error.message) from None


def _number(limit: str, text: str) -> int | None:
    if text == DEFAULT:
        return None
    try:
        return int(text)
    except ValueError:
        raise SystemExit(f"{limit} is a whole number of 1 or more, or `{DEFAULT}`; not {text!r}.") from None


def _switch(text: str) -> bool:
    if text not in SWITCH:
        raise SystemExit(f"templates_only is yes or no, not {text!r}.")
    return SWITCH[text]
