"""The cost of metrics, request ids and the access log for the API, with tracing off.

    python -m benchmarks observability

starts the API three times over the same real servers: as it is, without its access log, and without all of these. Each
round sends the same requests to all three, in random order. It prints requests per second of wall-clock time and of the
API's CPU time. Figures are medians over the rounds; the loss is the median of the differences within each round.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks.deployments import cluster_servers
from benchmarks.processes import cpu_seconds
from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster

VARIANTS = ("bare", "metrics", "all")
CLIENTS = 4
IMAGE = make_photo(64, 48)
FORM = {"operations": json.dumps(["convert_webp"])}

Ask = Callable[[httpx.Client, str], httpx.Response]


def accept(client: httpx.Client, _job: str) -> httpx.Response:
    return client.post("/process", data=FORM, files={"file": ("photo.jpg", IMAGE)})


def look(client: httpx.Client, job: str) -> httpx.Response:
    return client.get(f"/jobs/{job}")


def live(client: httpx.Client, _job: str) -> httpx.Response:
    return client.get("/health/live")


REQUESTS: dict[str, tuple[Ask, int]] = {
    "POST /process": (accept, 160),
    "GET /jobs/{id}": (look, 400),
    "GET /health/live": (live, 1600),
}


def measure(deployment: Deployment, ask: Ask, count: int, job: str) -> tuple[float, float]:
    """Seconds of wall-clock time and of CPU time for a number of requests."""

    def send(number: int) -> None:
        with httpx.Client(base_url=deployment.url, timeout=60) as client:
            for _ in range(number):
                ask(client, job).raise_for_status()

    pid = deployment.processes[0].pid
    began, worked = time.perf_counter(), cpu_seconds([pid])
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, [count // CLIENTS] * CLIENTS))
    return time.perf_counter() - began, cpu_seconds([pid]) - worked


def compare(
    deployments: dict[str, Deployment], ask: Ask, count: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    jobs = {}
    for name, deployment in deployments.items():
        with deployment.client() as api:
            jobs[name] = api.accepted(IMAGE, ["convert_webp"])["id"]
        measure(deployment, ask, count, jobs[name])  # warm-up
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in deployments}
    for _ in range(rounds):
        for name in random.sample(VARIANTS, len(VARIANTS)):
            found[name].append(measure(deployments[name], ask, count, jobs[name]))
    return found


def row(title: str, found: dict[str, list[tuple[float, float]]], count: int) -> str:
    cells = []
    for clock in (0, 1):
        rates = {name: [count / seconds[clock] for seconds in found[name]] for name in VARIANTS}
        cells += [f"{statistics.median(rates['bare']):.0f}"]
        for name in VARIANTS[1:]:
            lost = [1 - rate / bare for bare, rate in zip(rates["bare"], rates[name], strict=True)]
            cells.append(f"{statistics.median(lost) * 100:.1f} %")
    return f"| `{title}` | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with cluster_servers() as (home, servers):
        deployments = {}
        try:
            for variant in VARIANTS:
                folder = home / variant
                folder.mkdir()
                deployments[variant] = cluster(folder, servers, PIXTOOLS_MAX_OPEN_JOBS="1000000")
                deployments[variant].commands = [["benchmarks.bare_api", variant]]
                deployments[variant].start()
            print("| requests per second | bare | metrics | and access log | by CPU time: bare | metrics | and log |")
            print("|---|---:|---:|---:|---:|---:|---:|")
            for title, (ask, count) in REQUESTS.items():
                print(row(title, compare(deployments, ask, count, options.rounds), count), flush=True)
        finally:
            for deployment in deployments.values():
                deployment.kill()
