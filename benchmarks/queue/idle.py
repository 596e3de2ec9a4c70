"""`pixtools serve` whose workers never take anything: `python -m benchmarks.queue.idle`. All else is as it is."""

import app.embedded
from app.config import Settings
from app.operations import Queue
from app.server import serve


class IdleWorker:
    """Stands where a `LocalWorker` would."""

    def __init__(self, queue: Queue, concurrency: int) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_alive(self) -> bool:
        return True


if __name__ == "__main__":
    app.embedded.LocalWorker = IdleWorker  # type: ignore[assignment, misc]
    serve(Settings())
