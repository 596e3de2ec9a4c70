"""`pixtools assets`: files that operations name."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.common import DEFAULT_SERVER, Server, path_of

assets_app = typer.Typer(help="Images and fonts that operations name, e.g. watermarks.", no_args_is_help=True)


@assets_app.command("put")
def put_asset(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image or font.")],
    name: Annotated[str | None, typer.Option(help="Name in operations; default: that of the file.")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Store a file, or replace it."""
    from pixtools_client import Client

    with Client(server) as client, file.open("rb") as content:
        asset = client.call("PUT", path_of("assets", name or file.name), content=content)
    typer.echo(asset["name"])


@assets_app.command("list")
def list_assets(server: Server = DEFAULT_SERVER) -> None:
    """Bytes, kind and name of every asset."""
    from pixtools_client import Client

    with Client(server) as client:
        for asset in client.call("GET", "/assets")["data"]:
            typer.echo(f"{asset['bytes']:>12}  {asset['kind']:<5}  {asset['name']}")


@assets_app.command("delete")
def delete_asset(
    name: Annotated[str, typer.Argument(help="As it was stored.")], server: Server = DEFAULT_SERVER
) -> None:
    """Take a file away; refused while a job that has not ended uses it."""
    from pixtools_client import Client

    with Client(server) as client:
        client.call("DELETE", path_of("assets", name))
