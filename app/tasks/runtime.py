"""The resources that the tasks of this process share."""

from app.config import Settings
from app.tasks import drain
from app.wiring import Resources

_shared: list[Resources] = []


def use(resources: Resources) -> None:
    """Let tasks work with the resources of the process that they are embedded in."""
    _shared[:] = [resources]


def resources() -> Resources:
    """Made by the first task that needs them: after the fork of a worker's child, never before it."""
    if not _shared:
        use(Resources(Settings(), drain.is_over))
    return _shared[0]
