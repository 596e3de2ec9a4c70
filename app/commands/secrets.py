"""`pixtools secrets`: what is encrypted in the database."""

import typer

from app.commands.common import database, usable

secrets_app = typer.Typer(help="What is encrypted in the database.", no_args_is_help=True)


@secrets_app.callback()
def secrets() -> None:
    """What is encrypted in the database."""


@secrets_app.command("rotate")
def rotate_secrets() -> None:
    """Encrypt all secrets with the first key of PIXTOOLS_SECRET_KEY, also those that were stored before there was any.

    Can be repeated, also while the service runs. Fails if one is encrypted with a key that the setting does not name.
    """
    from app.services.upkeep import secrets as upkeep

    opened = database()
    with usable(opened):
        rotated = upkeep.rotate_all(opened)
    typer.echo(f"{rotated.sealed} encrypted with the current key.")
    if rotated.unreadable:
        typer.echo(f"{rotated.unreadable} cannot be read by any key of PIXTOOLS_SECRET_KEY.", err=True)
        raise typer.Exit(1)
