"""How long an accepted job waits for its first task, and how many that wait are drained.

    .venv/bin/python benchmarks/latency.py [--jobs 10000]

starts all servers, the API and its workers, as the tests do. First, one job at a time: from
the moment that the API stamps on a job to the start of its first step, by the database's clock on the same machine;
beside it a bare Celery `apply_async` over the same broker, in turns. Then so many jobs of one step are submitted while
no worker runs, a worker is started, and the memory of the API, which holds the relay, is watched while they drain.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, cluster
from tests.support.fixtures import ClusterServers, ServerPool
from tests.support.servers import ObjectStoreServer, PostgreSQL, RabbitMQ, Redis

ROUNDS = 100
IMAGE = make_photo(64, 48)
BARE_WORKER = ["celery", "-A", "benchmarks.bare_celery", "worker", "-Q", "bare", "-P", "prefork", "-c", "1"]


def seconds_to_first_task(api: ApiClient) -> float:
    job = api.run(IMAGE, ["convert_png"])
    started = datetime.fromisoformat(job["steps"][0]["started_at"])
    return (started - datetime.fromisoformat(job["created_at"])).total_seconds()


def bare_seconds(folder: Path) -> float:
    from benchmarks.bare_celery import note  # noqa: PLC0415 - it reads the address of the broker

    path = folder / "delays"
    path.unlink(missing_ok=True)
    note.apply_async((time.time(), str(path)))
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.002)
    return float(path.read_text())


def latency(deployment: Deployment, folder: Path) -> None:
    broker = deployment.environment["PIXTOOLS_BROKER_URL"]
    os.environ["BARE_BROKER"] = broker
    worker = subprocess.Popen(
        [sys.executable, "-m", *BARE_WORKER], env={**os.environ, "BARE_BROKER": broker}, stderr=subprocess.DEVNULL
    )
    try:
        with deployment.client() as api:
            for measure in (lambda: seconds_to_first_task(api), lambda: bare_seconds(folder)):
                for _ in range(5):
                    measure()
            ours, bare = [], []
            for _ in range(ROUNDS):
                ours.append(seconds_to_first_task(api))
                bare.append(bare_seconds(folder))
    finally:
        worker.terminate()
        worker.wait()
    print("| ms | median | p99 |\n|---|---:|---:|")
    for name, values in (("accepted to first task", ours), ("bare Celery", bare)):
        percentiles = statistics.quantiles(values, n=100)
        print(f"| {name} | {statistics.median(values) * 1000:.1f} | {percentiles[98] * 1000:.1f} |")
    print(f"median extra delay: {(statistics.median(ours) - statistics.median(bare)) * 1000:.1f} ms\n", flush=True)


def drain(deployment: Deployment, count: int) -> None:
    api_process = psutil.Process(deployment.processes[0].pid)
    with deployment.client() as api:
        api.run(IMAGE, ["convert_png"])
    for process in deployment.processes[1:]:
        process.terminate()
        process.wait()
    database = deployment.environment["PIXTOOLS_DATABASE_URL"].replace("+psycopg", "")

    def submit(number: int) -> None:
        with deployment.client() as api:
            for _ in range(number):
                api.accepted(IMAGE, ["convert_png"])

    before, began = api_process.memory_info().rss, time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(submit, [count // 4] * 4))
    accepted, waiting = time.monotonic() - began, api_process.memory_info().rss
    deployment.processes[1] = deployment.restart(1)
    began, sampled = time.monotonic(), []
    with psycopg.connect(database, autocommit=True) as connection:
        while (open_ := connection.execute("SELECT count(*) FROM jobs WHERE finished_at IS NULL").fetchone()) != (0,):
            sampled.append(api_process.memory_info().rss)
            print(f"{open_[0] if open_ else 0} open", file=sys.stderr, flush=True)
            time.sleep(5)
    drained = time.monotonic() - began
    print(f"{count} jobs accepted in {accepted:.0f} s ({count / accepted:.0f}/s), drained in {drained:.0f} s ", end="")
    print(
        f"({count / drained:.0f}/s by two processes). Memory of the API with its relay: {before / 1e6:.0f} MB before, "
    )
    print(f"{waiting / 1e6:.0f} MB with all of them waiting, at most {max(sampled) / 1e6:.0f} MB while they drained.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        servers = ClusterServers(
            rabbitmq=pool.get(RabbitMQ),
            redis=pool.get(Redis),
            postgresql=pool.get(PostgreSQL),
            object_store=pool.get(ObjectStoreServer),
        )
        deployment = cluster(folder, servers, PIXTOOLS_MAX_OPEN_JOBS=str(2 * options.jobs))
        try:
            deployment.start()
            latency(deployment, folder)
            drain(deployment, options.jobs)
        finally:
            deployment.kill()
            pool.stop()


if __name__ == "__main__":
    main()
