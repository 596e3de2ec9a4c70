"""The tasks for deliveries and replays of webhooks."""

from celery import Task

from app.services.outbox import DELIVER_WEBHOOK, REPLAY_WEBHOOKS
from app.services.webhooks import replays
from app.tasks.celery_app import celery_app
from app.tasks.runtime import resources, undone_when_cut_off


@celery_app.task(bind=True, name=DELIVER_WEBHOOK, ignore_result=True)
def deliver_webhook(task: Task, delivery_id: str) -> None:
    """Make one attempt at a delivery."""
    with undone_when_cut_off():
        resources().webhooks.attempt(delivery_id, owner=task.request.id)


@celery_app.task(name=REPLAY_WEBHOOKS, ignore_result=True)
def replay_webhooks(replay_id: str, after: str) -> None:
    """Send the next batch of a replay."""
    with undone_when_cut_off():
        resources().database.retry(replays.run_batch, resources().must_stop, replay_id, after)
