"""`pixtools assets`: files that operations name."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.common import storage

assets_app = typer.Typer(
    help="Files that operations name, e.g. watermarks; in the storage of the PIXTOOLS_ settings.", no_args_is_help=True
)


@assets_app.command("put")
def put_asset(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image.")],
    name: Annotated[str | None, typer.Option(help="Name in operations; default: that of the file.")] = None,
) -> None:
    """Store an image, or replace it."""
    from app.errors import PixToolsError
    from app.services.storage import assets

    try:
        typer.echo(assets.put(storage(), file, name or file.name))
    except PixToolsError as error:
        raise SystemExit(error.message) from None


@assets_app.command("list")
def list_assets() -> None:
    """Name and bytes of every stored image."""
    from app.services.storage.keys import ASSETS

    for key, size in storage().entries(ASSETS):
        typer.echo(f"{size:>12}  {key.removeprefix(ASSETS)}")


@assets_app.command("delete")
def delete_asset(name: Annotated[str, typer.Argument(help="As it was stored.")]) -> None:
    """Remove an image; steps that name it fail from now on."""
    from app.services.storage.keys import asset_key

    storage().delete(asset_key(name))
