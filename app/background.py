"""Background services: relay, dispatcher, reconciler, retention, accounting of tenants, the reader of dead letters, and
the recorder of key use.

Every API process runs them, and `pixtools relay` runs nothing else. Any number of processes may run them at once.
"""

from typing import Protocol

from app.services.dispatch import QueueLook, sender, waiting_in
from app.services.outbox import Relay
from app.services.upkeep.key_use import KeyUse
from app.tasks.celery_app import celery_app
from app.tasks.dead_letters import DeadLetterReader
from app.wiring import Resources


class Service(Protocol):
    """A background service that runs in its own thread."""

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
