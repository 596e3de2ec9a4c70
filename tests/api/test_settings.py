"""Settings that are given to the API hold for all of it, whatever the environment says."""

from pathlib import Path

from tests.support.deployment import ROOT
from tests.support.preloaded import preloaded

PROGRAM = """
import asyncio
from pathlib import Path
from app.config import Settings
from app.main import create_app
from app.tasks import drain, runtime
from app.tasks.celery_app import celery_app

async def main():
    given = Settings(data_dir=Path({folder!r}), reconcile_seconds=7, drain_seconds=0, log_level="ERROR")
    app = create_app(given)
    async with app.router.lifespan_context(app):
        print(celery_app.conf.broker_transport)
        print(celery_app.conf.beat_schedule["pixtools.reconcile"]["schedule"])
        print(runtime.resources().settings is given)
        celery_app.conf.setdefault("unused", None)
        from celery.signals import worker_shutting_down
        worker_shutting_down.send(sender=None)
        print(drain.is_over())

asyncio.run(main())
"""


def test_given_settings_hold_for_celery_and_the_drain_as_well(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PIXTOOLS_BROKER_URL": "amqp://guest@127.0.0.1:9//",
        "PIXTOOLS_RECONCILE_SECONDS": "1000",
        "PIXTOOLS_DRAIN_SECONDS": "1000",
    }
    # by the environment alone this would be a cluster; what is given makes it one process
    program = PROGRAM.format(folder=str(tmp_path / "data")).replace("Settings(", 'Settings(broker_url="memory://", ')
    ran = preloaded([], environment).run(["-c", program], environment, 120, folder=ROOT)
    assert ran.stdout.split() == ["app.tasks.memory_broker:Transport", "7.0", "True", "True"], ran.stderr[-2000:]
