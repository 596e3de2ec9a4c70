"""`pixtools stores | server stores`: connections to buckets, and to folders of the server's machine."""

from typing import Annotated

import typer

from app.commands.common import Server, current_settings, known_tenant, opened, transaction
from app.commands.inputs import STANDARD_INPUT, json_of
from app.commands.mistakes import suggesting
from app.commands.printing import echo_json, say

stores_app = typer.Typer(help="Connections to buckets that images come from and results go to.", no_args_is_help=True)
folders_app = typer.Typer(
    help="Stores that are folders of the server's machine, in the database of the PIXTOOLS_ settings.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name in requests: lower-case letters, digits and `-`.")]
#: members of Google's key file for a service account that are the credentials of a store
OF_GOOGLE = ("client_email", "private_key", "private_key_id")


@stores_app.command("list")
def list_stores(server: Server = None) -> None:
    """List all stores, one per line: name and bucket."""
    with opened(server) as client:
        for store in client.stores():
            say(f"{store['name']:<16}  {store['url']}  {store['endpoint'] or store['region']}")


@stores_app.command("show")
def show_store(name: Name, server: Server = None) -> None:
    """Print one store as JSON, without its credentials."""
    with opened(server) as client, suggesting(name, lambda: (each["name"] for each in client.stores())):
        echo_json(client.store(name))


@stores_app.command("put")
def put_store(
    name: Name,
    url: Annotated[str, typer.Argument(help="s3://bucket, gs://bucket or az://container.")],
    credentials: Annotated[
        str, typer.Option(help="File with a JSON object, or a key file of Google; default: standard input.")
    ] = STANDARD_INPUT,
    endpoint: Annotated[str | None, typer.Option(help="An endpoint that the operator has allowed.")] = None,
    region: Annotated[str | None, typer.Option(help="Region of S3; default: the server's region.")] = None,
    server: Server = None,
) -> None:
    """Save or change a connection; the server tries it at once.

    Credentials are read from a file or from standard input, never from arguments, which every user of the machine can
    see: for S3 {"access_key_id": "…", "secret_access_key": "…"}, for Azure {"account": "…", "account_key": "…"}, for
    Google the key file of a service account.
    """
    given = json_of(credentials)
    if not isinstance(given, dict):
        raise typer.BadParameter("The credentials must be a JSON object.")
    if given.get("type") == "service_account":
        given = {each: given[each] for each in OF_GOOGLE if each in given}
    with opened(server) as client:
        client.put_store(name, url, given, endpoint=endpoint, region=region)
    say(name)


@stores_app.command("delete")
def delete_store(name: Name, server: Server = None) -> None:
    """Delete a connection; the bucket stays as it is."""
    with opened(server) as client, suggesting(name, lambda: (each["name"] for each in client.stores())):
        client.delete_store(name)


@folders_app.command("put")
def put_folder(
    name: Name,
    url: Annotated[str, typer.Argument(help="file:///path, at or below a folder of PIXTOOLS_FILE_STORE_ROOTS.")],
    tenant: Annotated[str, typer.Option(help="Tenant that may read and write there.")] = "default",
) -> None:
    """Connect a tenant to a folder, which every worker must have under the same path.

    Links below the root are not followed. `pixtools stores` lists and deletes the store like any other.
    """
    from app.errors import PixToolsError
    from app.services import stores
    from app.services.access import audit

    if not stores.NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} is not the name of a store: names have lower-case letters, digits and `-`.")
    try:
        connection = stores.folder(url, current_settings().file_store_roots)
        with transaction(tenant=tenant) as session:
            known_tenant(session, tenant)
            stores.put(session, name, connection)
            audit.record(session, "store.saved", name, tenant=tenant, details={"url": connection.url})
    except PixToolsError as error:
        raise SystemExit(error.message) from None
    say(name)
