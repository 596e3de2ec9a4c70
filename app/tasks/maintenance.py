"""What Celery beat may ask for: the repairs and removals that every API process makes by a timer of its own.

`celery -A app.tasks.celery_app beat` is for those who want them on a schedule that they can see; both at once are
harmless.
"""

from app.services.dispatch import waiting_in
from app.tasks.celery_app import RECONCILE, REMOVE_EXPIRED, celery_app
from app.tasks.runtime import resources


@celery_app.task(name=RECONCILE, ignore_result=True)
def reconcile() -> None:
    """Start again what is stuck."""
    resources().reconciler(waiting_in(celery_app)).run_once()


@celery_app.task(name=REMOVE_EXPIRED, ignore_result=True)
def remove_expired() -> None:
    """Remove what has expired by now."""
    resources().retention().run_once()
