"""`pixtools assets`: files that operations use."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.common import Server, opened
from app.commands.mistakes import suggesting
from app.commands.printing import say

assets_app = typer.Typer(help="Images and fonts that operations use, such as watermarks.", no_args_is_help=True)


@assets_app.command("put")
def put_asset(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image or font.")],
    name: Annotated[str | None, typer.Option(help="Name in operations; default: the file's name.")] = None,
    server: Server = None,
) -> None:
    """Store a file, or replace it."""
    with opened(server) as client:
        asset = client.put_asset(name or file.name, file.read_bytes())
    say(asset["name"])


@assets_app.command("list")
def list_assets(server: Server = None) -> None:
    """List all assets, one per line: bytes, kind and name."""
    with opened(server) as client:
        for asset in client.assets():
            say(f"{asset['bytes']:>12}  {asset['kind']:<5}  {asset['name']}")


@assets_app.command("delete")
def delete_asset(name: Annotated[str, typer.Argument(help="Name of the asset.")], server: Server = None) -> None:
    """Delete a file; refused while an unfinished job uses the file."""
    with opened(server) as client, suggesting(name, lambda: (each["name"] for each in client.assets())):
        client.delete_asset(name)
