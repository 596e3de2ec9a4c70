"""`pixtools secrets`: the encrypted values in the database."""

import typer

from app.commands.common import database, usable
from app.commands.printing import say, warn

secrets_app = typer.Typer(help="Encrypted secrets in the database.", no_args_is_help=True)


@secrets_app.callback()
def secrets() -> None:
    """Encrypted secrets in the database."""


@secrets_app.command("rotate")
def rotate_secrets() -> None:
    """Encrypt all secrets with the first key of PIXTOOLS_SECRET_KEY, including secrets that were stored in plain.

    The command can be repeated, even while the service runs. It fails if a secret is encrypted with a key that the
    setting does not have.
    """
    from app.services.upkeep import secrets as upkeep

    opened = database()
    with usable(opened):
        rotated = upkeep.rotate_all(opened)
    say(f"{rotated.sealed} encrypted with the current key.")
    if rotated.unreadable:
        warn(f"{rotated.unreadable} cannot be decrypted with any key of PIXTOOLS_SECRET_KEY.")
        raise typer.Exit(1)
