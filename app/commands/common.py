"""What all commands share: where the server is, the settings, and printing."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.database import Database
    from app.services.storage.object_store import ObjectStore

Server = Annotated[str, typer.Option(envvar="PIXTOOLS_URL", help="Address of the API.")]
DEFAULT_SERVER = "http://127.0.0.1:8000"


def echo_call(server: str, method: str, path: str, **options: Any) -> None:
    """Make one request and print the answer."""
    from pixtools_client import Client

    with Client(server) as client:
        echo_json(client.call(method, path, **options))


def echo_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def current_settings() -> "Settings":
    """The settings; a mistake in them ends the command with its name."""
    from pydantic import ValidationError

    from app.config import Settings, current
    from app.private import keep_new_files_private

    keep_new_files_private()
    try:
        current.use(Settings())
        return current()
    except ValidationError as error:
        for mistake in error.errors():
            name = "_".join(str(part) for part in mistake["loc"]).upper()
            typer.echo(f"PIXTOOLS_{name}: {mistake['msg']}", err=True)
        raise SystemExit(2) from None


def path_of(kind: str, id_: str) -> str:
    """The path of something by its id."""
    if not id_.strip("."):
        raise SystemExit(f"An id is missing: {id_!r} is none.")
    return f"/{kind}/{quote(id_, safe='')}"


@contextmanager
def transaction(*, read_only: bool = False, tenant: str | None = None) -> Iterator["Session"]:
    """A session of the database of the settings, for all tenants or one; what cannot be used ends the command in a
    line."""
    opened = database()
    with usable(opened), opened.session(read_only=read_only, tenant=tenant) as session:
        yield session


@contextmanager
def usable(opened: "Database") -> Iterator[None]:
    """What goes wrong with this database, or with the keys of its secrets, ends the command in a line."""
    from sqlalchemy.exc import DBAPIError

    from app.errors import CannotStart, UnreadableSecret

    try:
        yield
    except (CannotStart, UnreadableSecret) as error:
        raise SystemExit(error.message) from None
    except DBAPIError as error:
        where = opened.url().render_as_string(hide_password=True)
        reason = str(error.orig).strip().partition("\n")[0]
        raise SystemExit(f"The database {where} cannot be used: {reason}") from None


def known_tenant(session: "Session", name: str) -> None:
    """End the command where there is no tenant of this name."""
    from app.errors import TenantNotFound
    from app.services.access import tenants

    try:
        tenants.get(session, name)
    except TenantNotFound as error:
        raise SystemExit(error.message) from None


def database() -> "Database":
    """That of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).database


def storage() -> "ObjectStore":
    """That of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).storage
