"""How long an accepted job waits for its first task, and how fast the relay sends messages, compared with bare Celery.

    python -m benchmarks latency [--rounds 300] [--messages 5000]

starts all servers, the API and its workers, as the tests do. It measures one job at a time, alternating with a bare
Celery `apply_async` over the same broker: the time to the start of the first step, from the client's request and from
the job's `created_at`, by the clock of the same machine. Then, without workers, it measures how long the API's relay
and bare Celery take to send the same number of messages, both with confirmations of the broker.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg

from app.database import Database
from app.services import outbox
from benchmarks.deployments import deployed
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment

WARM_UP = 10  # rounds
IMAGE = make_photo(64, 48)
BARE_WORKER = ["celery", "-A", "benchmarks.bare_celery", "worker", "-Q", "bare", "-P", "prefork", "-c", "1"]


def connect(deployment: Deployment) -> "psycopg.Connection[tuple[int]]":
    return psycopg.connect(deployment.environment["PIXTOOLS_DATABASE_URL"].replace("+psycopg", ""), autocommit=True)


def wait_for_none(connection: "psycopg.Connection[tuple[int]]", query: str, pause: float) -> Iterator[int]:
    """Repeat a query for a count until it is zero; yields the counts before."""
    while (row := connection.execute(query).fetchone()) is not None and row[0]:
        yield row[0]
        time.sleep(pause)


def job_seconds(api: ApiClient) -> tuple[float, float]:
    """Seconds to the start of the first task: from the request, and from the job's `created_at`."""
    sent = datetime.now(UTC)
    job = api.run(IMAGE, ["convert_png"])
    started = datetime.fromisoformat(job["steps"][0]["started_at"])
    return (started - sent).total_seconds(), (started - datetime.fromisoformat(job["created_at"])).total_seconds()


def bare_seconds(path: Path) -> float:
    from benchmarks.bare_celery import note  # noqa: PLC0415 - it reads the address of the broker

    path.unlink(missing_ok=True)
    note.apply_async((time.time(), str(path)))
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.002)
    return float(path.read_text())


@contextmanager
def bare_worker() -> Iterator[None]:
    worker = subprocess.Popen([sys.executable, "-m", *BARE_WORKER], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def latency(deployment: Deployment, rounds: int) -> None:
    path = deployment.folder / "delays"
    of_request, of_job, bare = [], [], []
    with bare_worker(), deployment.client() as api:
        for _ in range(WARM_UP):
            job_seconds(api)
            bare_seconds(path)
        for _ in range(rounds):
            from_request, from_stamp = job_seconds(api)
            of_request.append(from_request)
            of_job.append(from_stamp)
            bare.append(bare_seconds(path))
    print("| to the first task, ms | median | p99 |\n|---|---:|---:|")
    rows = {"from `POST /process`": of_request, "from the job's acceptance": of_job, "bare Celery `apply_async`": bare}
    for name, values in rows.items():
        percentiles = statistics.quantiles(values, n=100)
        print(f"| {name} | {statistics.median(values) * 1000:.1f} | {percentiles[98] * 1000:.1f} |")
    print(f"median extra delay: {(statistics.median(of_job) - statistics.median(bare)) * 1000:.1f} ms\n", flush=True)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def throughput(deployment: Deployment, messages: int) -> None:
    from benchmarks.bare_celery import note  # noqa: PLC0415 - it reads the address of the broker

    for process in deployment.processes[1:]:
        process.terminate()
        process.wait()
    database = Database(deployment.environment["PIXTOOLS_DATABASE_URL"])

    def relay() -> None:
        with connect(deployment) as connection:
            for _ in wait_for_none(connection, "SELECT count(*) FROM outbox", 0.05):
                pass

    def bare() -> None:
        for _ in range(messages):
            note.apply_async((time.time(), os.devnull))

    with database.session() as session:
        for _ in range(messages):
            outbox.enqueue(session, outbox.FINALIZE, [str(uuid4())])
    print("| messages per second | |\n|---|---:|")
    print(f"| relay of one API process, from the commit on | {messages / seconds_of(relay):.0f} |")
    print(f"| bare Celery `apply_async` | {messages / seconds_of(bare):.0f} |", flush=True)
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--messages", type=int, default=5000)
    options = parser.parse_args()
    with deployed() as deployment:
        os.environ["BARE_BROKER"] = deployment.environment["PIXTOOLS_BROKER_URL"]  # for `bare_celery`
        latency(deployment, options.rounds)
        throughput(deployment, options.messages)
