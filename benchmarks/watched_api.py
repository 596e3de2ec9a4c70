"""`pixtools serve`, which itself measures the pauses of its event loop, so that those of `uploads.py` do not count.

python -m benchmarks.watched_api
"""

import asyncio
import os
import time
from pathlib import Path

from app.config import Settings
from app.server import serve


def main() -> None:
    original = asyncio.Runner.run

    async def measured(main: object) -> None:
        watch = asyncio.create_task(_pauses())
        await main  # type: ignore[misc]
        watch.cancel()

    def run(self: asyncio.Runner, coroutine: object, **options: object) -> object:
        return original(self, measured(coroutine), **options)  # type: ignore[arg-type]

    asyncio.Runner.run = run  # type: ignore[assignment, method-assign]
    serve(Settings())


async def _pauses() -> None:
    folder = Path(os.environ["PIXTOOLS_DATA_DIR"])
    while not (folder / "begun").exists():  # noqa: ASYNC110 - the other side is another process
        await asyncio.sleep(0.1)
    longest = 0.0
    while True:
        start = time.perf_counter()
        cpu = time.thread_time()
        await asyncio.sleep(0.005)
        pause, worked = time.perf_counter() - start - 0.005, time.thread_time() - cpu
        if pause > longest:
            longest = pause
            (folder / "longest-pause").write_text(f"{pause * 1000:.0f} ms (of them {worked * 1000:.0f} ms on the CPU)")


if __name__ == "__main__":
    main()
