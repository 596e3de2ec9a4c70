"""`pixtools templates`: named operation trees."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common import Server, opened
from app.commands.inputs import json_of
from app.commands.mistakes import suggesting
from app.commands.printing import echo_json, say

if TYPE_CHECKING:
    from pixtools_client import Client

templates_app = typer.Typer(help="Named operation trees, with versions and parameters.", no_args_is_help=True)

MEMBERS = {"operations", "params", "output"}


@templates_app.command("list")
def list_templates(server: Server = None) -> None:
    """List the latest version of each template, one per line, with its parameters."""
    with opened(server) as client:
        found = client.templates()
    width = max((len(each["template"]) for each in found), default=0)
    for each in found:
        origin = "built-in" if each["built_in"] else (each["created_at"] or "")[:10]
        names = ", ".join(each["params"].get("properties", {}))
        say(f"{each['template']:<{width}}  {origin:<10}  {names}".rstrip())


@templates_app.command("show")
def show_template(
    name: Annotated[str, typer.Argument(help="Name, or name and version: `shop@2`.")], server: Server = None
) -> None:
    """Print one template as JSON."""
    with opened(server) as client, suggesting(name.partition("@")[0], lambda: _names(client)):
        echo_json(client.template(name))


@templates_app.command("put")
def put_template(
    name: Annotated[str, typer.Argument(help="Name in requests.")],
    file: Annotated[
        str,
        typer.Argument(help='JSON file with {"operations": …, "params": …} or a tree alone; - is standard input.'),
    ],
    server: Server = None,
) -> None:
    """Store a template, or a new version of a changed one, and print its name and version."""
    content = json_of(file)
    given = content if isinstance(content, dict) and "op" not in content else {"operations": content}
    unknown = sorted(set(given) - MEMBERS)
    if unknown or "operations" not in given:
        wrong = f"has {unknown[0]!r}" if unknown else "has no `operations`"
        raise typer.BadParameter(f"{file} {wrong}; a template has operations, params and output.")
    with opened(server) as client:
        stored = client.put_template(name, given["operations"], params=given.get("params"), output=given.get("output"))
    say(stored["template"])


@templates_app.command("delete")
def delete_template(name: Annotated[str, typer.Argument(help="Name of the template.")], server: Server = None) -> None:
    """Delete a template with all its versions; jobs keep their trees."""
    with opened(server) as client, suggesting(name, lambda: _names(client)):
        client.delete_template(name)


def _names(client: "Client") -> Iterator[str]:
    return (each["template"].partition("@")[0] for each in client.templates())
