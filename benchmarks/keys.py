"""The cost of API keys per request: the same requests to a server in open mode, and to one that requires a key.

    python -m benchmarks keys [--rounds 600] [--mode embedded]

starts two deployments as the tests do, and alternates between them, so that other load affects both equally.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.deployments import deployed
from tests.conftest import make_photo
from tests.support.deployment import ApiClient

HEAD = """| ms | p50 open | p50 with a key | difference | p95 open | p95 with a key |
|---|---:|---:|---:|---:|---:|"""
WARM_UP = 20  # rounds
IMAGE = make_photo(64, 48)
SUBMISSIONS = 10  # one submission per so many rounds, since each costs a job


def milliseconds(request: Callable[[], object]) -> float:
    began = time.perf_counter()
    request()
    return (time.perf_counter() - began) * 1000


def compare(name: str, requests: list[Callable[[], object]], rounds: int) -> None:
    for request in requests:
        for _ in range(WARM_UP):
            request()
    taken: list[list[float]] = [[] for _ in requests]
    for number in range(rounds):
        for each in (0, 1) if number % 2 else (1, 0):
            taken[each].append(milliseconds(requests[each]))
    without, with_key = (statistics.median(values) for values in taken)
    tails = [statistics.quantiles(values, n=100)[94] for values in taken]
    print(
        f"| {name} | {without:.2f} | {with_key:.2f} | {with_key - without:+.2f} | {tails[0]:.2f} | {tails[1]:.2f} |",
        flush=True,
    )


def reading(api: ApiClient) -> Callable[[], object]:
    job = api.run(IMAGE, ["convert_png"])
    return lambda: api.job(job["id"])


def sending(api: ApiClient) -> Callable[[], object]:
    def send() -> None:
        answer = api.process(IMAGE, ["convert_png"], headers={"Prefer": "wait=30"})
        assert answer.status_code == 200, answer.text

    return send


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--mode", default="embedded", choices=["embedded", "cluster"])
    options = parser.parse_args()
    with ExitStack() as stack:
        first, second = (stack.enter_context(deployed(options.mode)) for _ in range(2))
        api, keyed = (stack.enter_context(each) for each in (first.client(), second.client(second.new_key())))
        print(HEAD)
        health = [lambda: api.http.get("/jobs?limit=1"), lambda: keyed.http.get("/jobs?limit=1")]
        compare("`GET /jobs?limit=1`", health, options.rounds)
        compare("`GET /jobs/{id}`", [reading(api), reading(keyed)], options.rounds)
        compare("`POST /process`, to the end of the job", [sending(api), sending(keyed)], options.rounds // SUBMISSIONS)


if __name__ == "__main__":
    main()
