"""Background services: the relay, the dispatcher, the reconciler, retention, the accounts of tenants, the reader of
dead letters and the notes on the use of keys.

Every API process runs them, and `pixtools relay` runs them alone; any number may do so at once.
"""

from typing import Protocol

from app.services.dispatch import QueueLook, sender, waiting_in
from app.services.outbox import Relay
from app.services.upkeep.key_use import KeyUse
from app.tasks.celery_app import celery_app
from app.tasks.dead_letters import DeadLetterReader
from app.wiring import Resources


class Service(Protocol):
    """A service with its own thread."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def services(resources: Resources) -> list[Service]:
    """All background services, not yet started."""
    settings, database = resources.settings, resources.database
    send = sender(celery_app)
    dispatcher = resources.dispatcher(send, QueueLook(celery_app, is_alone=settings.embedded))
    relay = Relay(
        database,
        dispatcher.sender(send),
        poll_seconds=settings.relay_poll_seconds,
        on_wake=dispatcher.places.note_due,
    )
    return [
        relay,
        dispatcher,
        resources.reconciler(waiting_in(celery_app)),
        resources.retention(),
        resources.accounts(),
        KeyUse(resources.door),
        DeadLetterReader(celery_app, database),
    ]
