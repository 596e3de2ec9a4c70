"""Shared by all commands: the server's address, times, and the settings."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.ending import tidily
from app.commands.printing import warn

if TYPE_CHECKING:
    from pixtools_client import Client
    from sqlalchemy.orm import Session

    from app.config import Settings
    from app.database import Database
    from app.services.storage.object_store import ObjectStore

Server = Annotated[str | None, typer.Option(help="Address of the API; default: PIXTOOLS_URL, or this machine.")]
PATIENCE = 2.0  # seconds for which requests to a server that is away are repeated
SLOW_SECONDS = 2.0  # without an answer, after which the command says so
QUIET_SECONDS = 15.0  # between two lines about a server that is away
FAILED, AWAY = 1, 3  # exit codes: something was refused or failed; the server does not answer
RELATIVE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@contextmanager
def opened(server: str | None, **options: Any) -> Iterator["Client"]:
    """The client of the server that a command names, or of the default one.

    Raises:
        ServerAway: the server refuses connections for 2 seconds, or is silent for 10.
    """
    from pixtools_client import Client

    with tidily(), Client(server, **{"patience": PATIENCE, "on_retry": Waiting(warn), **options}) as client:
        _find(client)
        yield client


def _find(client: "Client") -> None:
    """Check that the server answers; after that, a command may have more patience."""
    from pixtools_client import Client

    slow = threading.Timer(SLOW_SECONDS, warn, [f"{client.server} has not answered yet."])
    slow.daemon = True
    slow.start()
    try:
        with Client(client.server, patience=PATIENCE, on_retry=Waiting(warn)) as asking:
            asking.live()
    finally:
        slow.cancel()


class Waiting:
    """Reports now and then, not at every attempt, that the command waits for a server."""

    def __init__(self, say: Callable[[str], None], stopped: threading.Event | None = None) -> None:
        self._say = say
        self._stopped = stopped or threading.Event()
        self._said_at = float("-inf")

    def __call__(self, error: Exception, _pause: float) -> None:
        if self._stopped.is_set():  # the command ends and closes its connections, which other threads still use
            return
        now = time.monotonic()
        if now - self._said_at >= QUIET_SECONDS:
            self._said_at = now
            self._say(f"{str(error).rstrip('.')}. Trying again.")


def moment(text: str | None) -> str | None:
    """A time in the form that the API takes; `1h` means an hour ago.

    Raises:
        BadParameter: the text is not a time.
    """
    if text is None:
        return None
    relative = RELATIVE.fullmatch(text.strip())
    if relative:
        ago = timedelta(seconds=int(relative[1]) * SECONDS[relative[2]])
        return (datetime.now(UTC) - ago).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time: give an age such as 90s, 30m, 1h, 2d or 1w, or a time such as 2026-11-23T12:00Z."
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def current_settings() -> "Settings":
    """The settings; a mistake in one ends the command with the setting's name."""
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
            warn(f"PIXTOOLS_{name}: {mistake['msg'].removeprefix('Value error, ')}")
        raise SystemExit(2) from None


@contextmanager
def transaction(*, read_only: bool = False, tenant: str | None = None) -> Iterator["Session"]:
    """A session of the database of the settings, for all tenants or for one; if the database cannot be used, the
    command ends with one line."""
    opened = database()
    with usable(opened), opened.session(read_only=read_only, tenant=tenant) as session:
        yield session


@contextmanager
def usable(opened: "Database") -> Iterator[None]:
    """End the command with one line if this database, or the keys of its secrets, cannot be used."""
    from sqlalchemy.exc import DBAPIError

    from app.errors import CannotStart, UnreadableSecret

    try:
        yield
    except (CannotStart, UnreadableSecret) as error:
        raise SystemExit(error.message) from None
    except DBAPIError as error:
        where = opened.url().render_as_string(hide_password=True)
        reason = str(error.orig).strip().partition("\n")[0]
        raise SystemExit(
            f"The database {where} cannot be used: {reason}. This command needs the server's own settings, such as "
            "PIXTOOLS_DATA_DIR or PIXTOOLS_DATABASE_URL."
        ) from None


def name_database() -> None:
    """Print on standard error which database a command reads, as its user might expect an answer of the server."""
    warn(f"From the database {database().url().render_as_string(hide_password=True)}, not from a running server.")


def known_tenant(session: "Session", name: str) -> None:
    """End the command if there is no tenant of this name."""
    from app.errors import TenantNotFound
    from app.services.access import tenants

    try:
        tenants.get(session, name)
    except TenantNotFound as error:
        raise SystemExit(error.message) from None


def database() -> "Database":
    """The database of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).database


def storage() -> "ObjectStore":
    """The object storage of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).storage
