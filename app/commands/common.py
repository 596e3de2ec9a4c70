"""What all commands share: where the server is, the settings, and printing."""

import json
import sys
from typing import Annotated, Any

import typer

Server = Annotated[str, typer.Option(envvar="PIXTOOLS_URL", help="Address of the API.")]
DEFAULT_SERVER = "http://127.0.0.1:8000"


def echo_call(server: str, method: str, path: str, **options: Any) -> None:
    """Make one request and print the answer."""
    from app.client import Client

    with Client(server) as client:
        echo_json(client.call(method, path, **options))


def echo_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def current_settings() -> Any:
    """The settings; a mistake in them ends the command with its name."""
    from pydantic import ValidationError

    from app.config import Settings

    try:
        return Settings()
    except ValidationError as error:
        for mistake in error.errors():
            name = "_".join(str(part) for part in mistake["loc"]).upper()
            typer.echo(f"PIXTOOLS_{name}: {mistake['msg']}", err=True)
        raise SystemExit(2) from None


def database() -> Any:
    """That of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).database


def storage() -> Any:
    """That of the settings."""
    from app.wiring import Resources

    return Resources(current_settings()).storage
