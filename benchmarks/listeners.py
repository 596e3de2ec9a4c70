"""The cost of listeners to live events, and the delay of their events.

    python -m benchmarks listeners [--idle 1000] [--active 50] [--jobs 200]

starts the embedded mode. First, `--idle` listeners open streams of a tenant without jobs, and the benchmark measures
the additional memory of the process and its CPU time over ten seconds. Then `--active` listeners of another tenant
receive the ends of jobs, one after the other, and it measures the time from the end of a job until its event has
arrived at each of them, by the clock of the same machine.
"""

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.conftest import make_photo
from tests.support.deployment import Deployment, embedded

SETTLE = 5.0  # seconds before memory is read
WATCHED = 10.0  # seconds over which idle CPU time is measured
MEGABYTE = 1_000_000
ROOM = "5000"


class Stream:
    """An open stream over a plain connection, so that this program itself uses little CPU time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.delays: list[float] = []

    @classmethod
    async def open(cls, url: str, key: str) -> "Stream":
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"GET /events/stream HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"no stream: {status.decode()}")
        await reader.readuntil(b"\nid: ")
        return cls(reader, writer)

    async def listen(self, number: int) -> None:
        """Record the delays of a number of events."""
        while len(self.delays) < number:
            line = await self._reader.readline()
            if line.startswith(b"data: "):
                now = datetime.now(UTC)
                self.delays.append((now - datetime.fromisoformat(json.loads(line[6:])["timestamp"])).total_seconds())


def main() -> None:
    arguments = _arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 10_000)), hard))
    with tempfile.TemporaryDirectory() as folder:
        names = ("MAX_CONNECTIONS", "MAX_LISTENERS", "TENANT_MAX_LISTENERS")
        deployment = embedded(Path(folder), **{f"PIXTOOLS_{name}": ROOM for name in names})
        deployment.start()
        try:
            asyncio.run(_measure(deployment, arguments))
        finally:
            deployment.stop()


async def _measure(deployment: Deployment, arguments: argparse.Namespace) -> None:
    idle, active = deployment.new_key("idle"), deployment.new_key("active")
    process = psutil.Process(deployment.processes[0].pid)
    warm = [await Stream.open(deployment.url, idle) for _ in range(20)]  # a warm-up, which is not counted
    await asyncio.sleep(SETTLE)
    before, alone = _rss(process), await _busy(process)
    opened = [await Stream.open(deployment.url, idle) for _ in range(arguments.idle)]
    await asyncio.sleep(SETTLE)
    after, together = _rss(process), await _busy(process)
    grown = (after - before) / MEGABYTE
    print(f"{arguments.idle} idle listeners: {grown:.1f} MB more, {1000 * grown / arguments.idle:.1f} kB each")
    print(f"processor in {WATCHED:g} s: {together:.2f} s with them, {alone:.2f} s with {len(warm)}")
    listening = [await Stream.open(deployment.url, active) for _ in range(arguments.active)]
    await asyncio.gather(
        _work(deployment, active, arguments.jobs), *(each.listen(arguments.jobs) for each in listening)
    )
    delays = sorted(delay for each in listening for delay in each.delays)
    p50, p99 = statistics.median(delays), delays[int(0.99 * len(delays))]
    print(
        f"{arguments.active} active listeners next to them, {len(delays)} events: "
        f"p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms, longest {1000 * delays[-1]:.0f} ms"
    )
    for each in (*warm, *opened, *listening):
        each.writer.close()


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


async def _busy(process: psutil.Process) -> float:
    before = process.cpu_times()
    await asyncio.sleep(WATCHED)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


async def _work(deployment: Deployment, key: str, number: int) -> None:
    image = make_photo(64, 48)

    def submit() -> None:
        with deployment.client(key) as api:
            for _ in range(number):
                api.accepted(image, ["convert_png"])
                time.sleep(0.1)

    await asyncio.to_thread(submit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks listeners", description=__doc__)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--active", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
