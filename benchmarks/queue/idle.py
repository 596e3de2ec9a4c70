"""`pixtools serve` with workers that never take a job, and no other change: `python -m benchmarks.queue.idle`."""

import app.embedded
from app.config import Settings
from app.operations import Queue
from app.server import serve


class IdleWorker:
    """Replaces a `LocalWorker`."""

    def __init__(self, queue: Queue, concurrency: int) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_alive(self) -> bool:
        return True


if __name__ == "__main__":
    app.embedded.LocalWorker = IdleWorker  # type: ignore[assignment, misc]
    serve(Settings())
