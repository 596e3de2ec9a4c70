"""`pixtools webhooks | deliveries | events`: receivers, what was sent to them, and the log of events."""

import json
import time
from typing import Annotated

import typer

from app.commands.common import DEFAULT_SERVER, Server, echo_call, echo_json, known_tenant, path_of, transaction

AWAY_SECONDS = 2.0  # until a server that is away is asked again

webhooks_app = typer.Typer(help="Receivers of events, and what was sent to them.", no_args_is_help=True)

EndpointId = Annotated[str, typer.Argument(help="Id of the endpoint.")]
DeliveryId = Annotated[str, typer.Argument(help="Id of the delivery.")]
EventTypes = Annotated[
    list[str] | None, typer.Option("--event", help="A type of events; can be given several times; default: all.")
]


@webhooks_app.command("create")
def create_webhook(
    url: Annotated[str, typer.Argument(help="Where events are posted to.")],
    event: EventTypes = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    server: Server = DEFAULT_SERVER,
) -> None:
    """Register a receiver; its secret is shown only now."""
    body = {"url": url, "events": event or [], "description": description}
    echo_call(server, "POST", "/webhooks", json=body)


@webhooks_app.command("list")
def list_webhooks(server: Server = DEFAULT_SERVER) -> None:
    """Every receiver, one a line."""
    from pixtools_client import Client

    with Client(server) as client:
        for endpoint in client.call("GET", "/webhooks")["data"]:
            state = "enabled" if endpoint["enabled"] else f"disabled: {endpoint['disabled_reason'] or 'on request'}"
            types = ",".join(endpoint["events"]) or "every event"
            typer.echo(f"{endpoint['id']}  {endpoint['url']}  {types}  {state}")


@webhooks_app.command("update")
def update_webhook(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option()] = None,
    event: EventTypes = None,
    description: Annotated[str | None, typer.Option()] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Change what is given."""
    values = {"url": url, "events": event, "description": description, "enabled": enabled}
    given = {name: value for name, value in values.items() if value is not None}
    echo_call(server, "PATCH", _endpoint(endpoint_id), json=given)


@webhooks_app.command("delete")
def delete_webhook(endpoint_id: EndpointId, server: Server = DEFAULT_SERVER) -> None:
    """Remove a receiver with its deliveries."""
    from pixtools_client import Client

    with Client(server) as client:
        client.call("DELETE", _endpoint(endpoint_id))


@webhooks_app.command("rotate")
def rotate_webhook(
    endpoint_id: EndpointId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds in which the old secret signs as well.")] = 86_400,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Give a receiver a new secret."""
    echo_call(server, "POST", f"{_endpoint(endpoint_id)}/rotate", json={"overlap_seconds": overlap})


@webhooks_app.command("test")
def send_test(endpoint_id: EndpointId, server: Server = DEFAULT_SERVER) -> None:
    """Send an event of type webhook.test, and show what came of it."""
    from pixtools_client import Client

    with Client(server) as client:
        delivery = client.call("POST", f"{_endpoint(endpoint_id)}/test")
        deadline = time.monotonic() + 30
        while not delivery["attempts"] and time.monotonic() < deadline:
            time.sleep(0.2)
            delivery = client.call("GET", f"/deliveries/{delivery['id']}")
        echo_json(delivery)
        if delivery["status"] != "delivered":
            raise typer.Exit(1)


@webhooks_app.command("replay")
def replay_webhook(
    endpoint_id: EndpointId,
    since: Annotated[str, typer.Option(help="Time with its zone, e.g. 2026-11-23T12:00:00Z.")],
    until: Annotated[str | None, typer.Option(help="Default: now.")] = None,
    missed_only: Annotated[bool, typer.Option(help="Leave out what the receiver has taken.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send all events of a time again."""
    body = {"since": since, "until": until, "missed_only": missed_only}
    echo_call(server, "POST", f"{_endpoint(endpoint_id)}/replay", json=body)


@webhooks_app.command("replays")
def list_replays(endpoint_id: EndpointId, server: Server = DEFAULT_SERVER) -> None:
    """Replays of a receiver and how far they are, newest first, as JSON."""
    echo_call(server, "GET", f"{_endpoint(endpoint_id)}/replays")


@webhooks_app.command("secret")
def show_secret(
    rotate: Annotated[bool, typer.Option(help="Make a new one; the old one signs for another day.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose jobs.")] = "default",
) -> None:
    """The secret that signs what goes to the `webhook_url` of jobs; from the database of the PIXTOOLS_ settings."""
    from app.services.webhooks import endpoints

    with transaction(tenant=tenant) as session:
        known_tenant(session, tenant)
        typer.echo(endpoints.rotate(session, None) if rotate else endpoints.secrets(session, None, tenant)[0])


deliveries_app = typer.Typer(help="What was sent to receivers.", no_args_is_help=True)


@deliveries_app.command("list")
def list_deliveries(
    status: Annotated[str | None, typer.Option(help="pending, delivered or exhausted.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Only to this endpoint.")] = None,
    job: Annotated[str | None, typer.Option(help="Only about this job.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    server: Server = DEFAULT_SERVER,
) -> None:
    """The newest deliveries, one a line."""
    from pixtools_client import Client

    with Client(server) as client:
        for delivery in client.newest("/deliveries", limit, status=status, endpoint=endpoint, job=job):
            typer.echo(
                f"{delivery['id']}  {delivery['created_at'][:19]}  {delivery['event']:<25}  {delivery['status']:<9}  "
                f"{delivery['attempt_count']} attempts  {delivery['error'] or ''}"
            )


@deliveries_app.command("show")
def show_delivery(delivery_id: DeliveryId, server: Server = DEFAULT_SERVER) -> None:
    """One delivery with its attempts, as JSON."""
    echo_call(server, "GET", _delivery(delivery_id))


@deliveries_app.command("replay")
def replay_delivery(delivery_id: DeliveryId, server: Server = DEFAULT_SERVER) -> None:
    """Send one event again."""
    echo_call(server, "POST", f"{_delivery(delivery_id)}/replay")


def follow_events(
    after: Annotated[str, typer.Option(help="Id of the last event seen; 0: from the beginning.")] = "0",
    follow: Annotated[bool, typer.Option(help="Keep waiting for new events.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """The log of events, oldest first, one JSON object a line."""
    from pixtools_client import Client, ServerAway

    headers = {"Prefer": "wait=20"} if follow else {}
    with Client(server) as client:
        while True:
            try:
                page = client.call("GET", "/events", params={"after": after, "limit": 100}, headers=headers)
            except ServerAway as away:
                if not follow:
                    raise
                typer.echo(f"{away} Going on after {after} in {AWAY_SECONDS:g} s.", err=True)
                time.sleep(AWAY_SECONDS)
                continue
            for event in page["data"]:
                typer.echo(json.dumps(event))
            after = page["next_after"]
            if not follow and not page["has_more"]:
                return


def _endpoint(endpoint_id: str) -> str:
    return path_of("webhooks", endpoint_id)


def _delivery(delivery_id: str) -> str:
    return path_of("deliveries", delivery_id)
