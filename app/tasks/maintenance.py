"""Tasks for Celery beat: the repairs and removals that every API process also performs by its own timer.

`celery -A app.tasks.celery_app beat` is for operators who want a visible schedule; both at once do no harm.
"""

from app.services.dispatch import waiting_in
from app.tasks.celery_app import RECONCILE, REMOVE_EXPIRED, celery_app
from app.tasks.runtime import resources


@celery_app.task(name=RECONCILE, ignore_result=True)
def reconcile() -> None:
    """Restart stuck work."""
    resources().reconciler(waiting_in(celery_app)).run_once()


@celery_app.task(name=REMOVE_EXPIRED, ignore_result=True)
def remove_expired() -> None:
    """Remove everything that has expired."""
    resources().retention().run_once()
