"""`pixtools webhooks | deliveries | events`: receivers, the deliveries to them, and the log of events."""

import json
import time
from typing import Annotated, Any, Literal

import typer

from app.commands.common import Server, known_tenant, moment, name_database, opened, transaction
from app.commands.printing import echo_json, say

FOR_EVER = 10.0**9  # seconds

webhooks_app = typer.Typer(help="Receivers of events.", no_args_is_help=True)

DeliveryStatus = Literal["pending", "delivered", "exhausted"]
EndpointId = Annotated[str, typer.Argument(help="Id of the endpoint.")]
DeliveryId = Annotated[str, typer.Argument(help="Id of the delivery.")]
EventTypes = Annotated[
    list[str] | None, typer.Option("--event", help="Type of events; can be given several times; default: all.")
]


@webhooks_app.command("create")
def create_webhook(
    url: Annotated[str, typer.Argument(help="URL that events are posted to.")],
    event: EventTypes = None,
    description: Annotated[str, typer.Option(help="A note for people.")] = "",
    server: Server = None,
) -> None:
    """Register a receiver; its secret is shown only once."""
    with opened(server) as client:
        echo_json(client.create_webhook(url, events=event or [], description=description))


@webhooks_app.command("list")
def list_webhooks(server: Server = None) -> None:
    """List all receivers, one per line."""
    with opened(server) as client:
        for endpoint in client.webhooks():
            state = "enabled" if endpoint["enabled"] else f"disabled: {endpoint['disabled_reason'] or 'on request'}"
            types = ",".join(endpoint["events"]) or "every event"
            say(f"{endpoint['id']}  {endpoint['url']}  {types}  {state}")


@webhooks_app.command("update")
def update_webhook(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option()] = None,
    event: EventTypes = None,
    description: Annotated[str | None, typer.Option()] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    server: Server = None,
) -> None:
    """Change a receiver; options that are not given change nothing."""
    values = {"url": url, "events": event, "description": description, "enabled": enabled}
    given = {name: value for name, value in values.items() if value is not None}
    with opened(server) as client:
        echo_json(client.update_webhook(endpoint_id, **given))


@webhooks_app.command("delete")
def delete_webhook(endpoint_id: EndpointId, server: Server = None) -> None:
    """Delete a receiver with its deliveries."""
    with opened(server) as client:
        client.delete_webhook(endpoint_id)


@webhooks_app.command("rotate")
def rotate_webhook(
    endpoint_id: EndpointId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds in which the old secret signs as well.")] = 86_400,
    server: Server = None,
) -> None:
    """Give a receiver a new secret."""
    with opened(server) as client:
        echo_json({"secret": client.rotate_webhook(endpoint_id, overlap_seconds=overlap)})


@webhooks_app.command("test")
def send_test(endpoint_id: EndpointId, server: Server = None) -> None:
    """Send an event of type webhook.test, and show the outcome."""
    with opened(server) as client:
        delivery: Any = client.test_webhook(endpoint_id)
        deadline = time.monotonic() + 30
        while not delivery["attempts"] and time.monotonic() < deadline:
            time.sleep(0.2)
            delivery = client.delivery(delivery["id"])
        echo_json(delivery)
        if delivery["status"] != "delivered":
            raise typer.Exit(1)


@webhooks_app.command("replay")
def replay_webhook(
    endpoint_id: EndpointId,
    since: Annotated[str, typer.Option(help="An age such as 1h or 2d, or a time such as 2026-11-23T12:00Z.")],
    until: Annotated[str | None, typer.Option(help="Default: now.")] = None,
    missed_only: Annotated[bool, typer.Option(help="Leave out events that the receiver has accepted.")] = False,
    server: Server = None,
) -> None:
    """Send all events of a period again."""
    first = moment(since) or ""
    with opened(server) as client:
        echo_json(client.replay_webhook(endpoint_id, since=first, until=moment(until), missed_only=missed_only))


@webhooks_app.command("replays")
def list_replays(endpoint_id: EndpointId, server: Server = None) -> None:
    """Print the replays of a receiver and their progress, newest first, as JSON."""
    with opened(server) as client:
        echo_json({"data": client.replays(endpoint_id)})


@webhooks_app.command("secret")
def show_secret(
    rotate: Annotated[bool, typer.Option(help="Make a new secret; the old one signs for another day.")] = False,
    tenant: Annotated[str, typer.Option(help="Tenant of the jobs.")] = "default",
) -> None:
    """Print the secret that signs events for the `webhook_url` of jobs, from the database of the PIXTOOLS_ settings."""
    from app.services.webhooks import endpoints

    with transaction(tenant=tenant) as session:
        known_tenant(session, tenant)
        secret = endpoints.rotate(session, None) if rotate else endpoints.secrets(session, None, tenant)[0]
    name_database()
    say(secret)


deliveries_app = typer.Typer(help="Events sent to receivers, with every attempt.", no_args_is_help=True)


@deliveries_app.command("list")
def list_deliveries(
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only deliveries in this state.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Only to this endpoint.")] = None,
    job: Annotated[str | None, typer.Option(help="Only about this job.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    server: Server = None,
) -> None:
    """List the newest deliveries, one per line."""
    with opened(server) as client:
        for delivery in client.deliveries(limit=limit, status=status, endpoint=endpoint, job=job):
            say(
                f"{delivery['id']}  {delivery['created_at'][:19]}  {delivery['event']:<25}  {delivery['status']:<9}  "
                f"{delivery['attempt_count']} attempts  {delivery['error'] or ''}"
            )


@deliveries_app.command("show")
def show_delivery(delivery_id: DeliveryId, server: Server = None) -> None:
    """Print one delivery with its attempts, as JSON."""
    with opened(server) as client:
        echo_json(client.delivery(delivery_id))


@deliveries_app.command("replay")
def replay_delivery(delivery_id: DeliveryId, server: Server = None) -> None:
    """Send one event again."""
    with opened(server) as client:
        echo_json(client.replay_delivery(delivery_id))


def follow_events(
    after: Annotated[str, typer.Option(help="Id of the last event seen; 0: from the beginning.")] = "0",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events as they happen.")] = False,
    event_type: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    server: Server = None,
) -> None:
    """Print the log of events, oldest first, one JSON object per line.

    With --follow the command goes on with new events, and waits for a server that restarts.
    """
    with opened(server, patience=FOR_EVER if follow else 2.0) as client:
        listing = client.live_events if follow else client.events
        for event in listing(after=after, type=event_type):
            say(json.dumps(event))
