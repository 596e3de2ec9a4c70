"""Memory of the API, the relay and a worker while many jobs of one step wait and are then processed.

    python -m benchmarks drain [--jobs 10000]

starts all servers, the API and a separate relay, as the tests do. It submits jobs with small images while no worker
runs. Then it starts a worker with two processes, and reads the resident memory of every process until no job is left.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.deployments import deployed
from benchmarks.latency import IMAGE, connect, wait_for_none
from benchmarks.processes import family, resident
from tests.support.deployment import Deployment

CLIENTS = 4
EVERY = 2.0  # seconds between two samples
OPEN = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
PARTS = 4  # of the drain, with a row each
API, WORKER, RELAY = 0, 1, -1  # indexes of the processes

Sample = dict[str, int]


def sample(deployment: Deployment) -> Sample:
    """Resident memory in bytes of the API, of the relay, and of the worker together with its children."""
    pids = {name: deployment.processes[number].pid for name, number in (("API", API), ("relay", RELAY))}
    worker = deployment.processes[WORKER]
    members = family([worker.pid]) if worker.poll() is None else set()
    return {**{name: resident(pid) for name, pid in pids.items()}, "worker": sum(map(resident, members))}


def submit(deployment: Deployment, count: int) -> None:
    def one_client(number: int) -> None:
        with deployment.client() as api:
            for _ in range(number):
                api.accepted(IMAGE, ["convert_png"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one_client, [count // CLIENTS] * CLIENTS))


def stop_workers(deployment: Deployment) -> None:
    for process in deployment.processes[WORKER:RELAY]:
        process.terminate()
        process.wait()


def watch(deployment: Deployment) -> list[tuple[int, Sample]]:
    """Samples of the number of open jobs and the memory, until no job is open."""
    with connect(deployment) as connection:
        return [(left, sample(deployment)) for left in wait_for_none(connection, OPEN, EVERY)]


def row(name: str, samples: list[Sample]) -> str:
    """A row with the maximum of each process."""
    most = [max(found[process] for found in samples) / 1e6 for process in ("API", "relay", "worker")]
    return f"| {name} | {' | '.join(f'{value:.0f}' for value in most)} |"


def drain(deployment: Deployment, count: int) -> None:
    with deployment.client() as api:
        api.run(IMAGE, ["convert_png"])
    before = sample(deployment)
    stop_workers(deployment)
    began = time.monotonic()
    submit(deployment, count)
    accepted, waiting = time.monotonic() - began, sample(deployment)
    deployment.processes[WORKER] = deployment.restart(WORKER)
    began = time.monotonic()
    seen = watch(deployment)
    drained = time.monotonic() - began
    print("| resident MB, at most | API | relay | worker, all processes |\n|---|---:|---:|---:|")
    print(row("before, after one job", [before]))
    print(row(f"{count} jobs wait", [waiting]))
    for part in range(PARTS):
        low, high = count * (PARTS - part - 1) / PARTS, count * (PARTS - part) / PARTS
        if samples := [found for left, found in seen if low < left <= high]:
            print(row(f"{high:.0f} to {low:.0f} left", samples))
    print(f"accepted {count / accepted:.0f}/s by {CLIENTS} clients, drained {count / drained:.0f}/s by two processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with deployed(PIXTOOLS_MAX_OPEN_JOBS=str(2 * options.jobs)) as deployment:
        deployment.commands.append(["app", "relay"])
        deployment.processes.append(deployment.restart(-1))
        drain(deployment, options.jobs)
