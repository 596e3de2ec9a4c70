"""Webhooks under bad conditions: how receivers can behave, and the effect of a dead host on others.

    python -m benchmarks webhooks [--dead-host]

starts all servers and PixTools as the tests do. The first table has one job per row, with a receiver that behaves as
the row says, and pauses of a second between attempts. For the last two tables, a thousand deliveries to ten hosts are
written at an even pace, then all at once. Rounds alternate between ten healthy hosts, a tenth host that accepts
requests but never answers, and a tenth host without a server; the tables show the times from the row to the receiver
for the nine others. With `--dead-host`, only these two are measured.
"""

import argparse
import itertools
import ssl
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

from app.database import Database, from_now
from app.models import Event
from app.services.webhooks import deliveries, events
from app.services.webhooks.endpoints import Target
from benchmarks.deployments import cluster_servers
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, cluster, free_port
from tests.support.fixtures import ClusterServers
from tests.support.receiver import (
    Behaviour,
    Receiver,
    answer,
    drip,
    drip_body,
    flood,
    garble,
    hang,
    receiving,
    reset,
)

IMAGE = make_photo(64, 48)
TIMEOUT = 2  # seconds per attempt
HOSTS = 10
DELIVERIES = 1000
TO_OTHERS = DELIVERIES * (HOSTS - 1) // HOSTS
PER_SECOND = 25
ROUNDS = 3
SETTINGS = {
    "PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": str(TIMEOUT),
    "PIXTOOLS_WEBHOOK_RETRY_SECONDS": "1,1",
    "PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "100",
}

BEHAVIOURS: list[tuple[str, list[Behaviour]]] = [
    ("500, 500, then 204", [answer(500), answer(500), answer(204)]),
    ("hangs", [hang]),
    ("answers a byte now and then", [drip]),
    ("200, then a body without end, drop by drop", [drip_body]),
    ("breaks the connection off", [reset]),
    ("answers what is not HTTP", [garble]),
    ("302 to another address", [answer(302, location="http://127.0.0.1:1/")]),
    ("429, `Retry-After: 4`, then 204", [answer(429, retry_after="4"), answer(204)]),
    ("410", [answer(410)]),
    ("200 with a gigabyte", [flood]),
]
REFUSED = (
    "http://[::ffff:127.0.0.1]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://169.254.169.254/",
    "http://[64:ff9b::7f00:1]/",
    "http://user:password@127.0.0.1/",
)


@dataclass(frozen=True)
class Case:
    """A behaviour of the tenth host."""

    name: str
    behave: Behaviour
    refuses: bool = False


CASES = [
    Case("healthy", answer(204)),
    Case("takes requests and never answers", hang),
    Case("refuses connections", hang, refuses=True),
]


def ended_delivery(api: ApiClient, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = api.http.get("/deliveries", params={"job": job_id}).json()["data"]
        if found and found[0]["status"] != "pending":
            return dict(api.http.get(f"/deliveries/{found[0]['id']}").json())
        time.sleep(0.1)
    raise TimeoutError(f"the delivery of job {job_id} does not end")


def row(api: ApiClient, name: str, url: str) -> str:
    delivery = ended_delivery(api, api.accepted(IMAGE, ["convert_png"], webhook_url=url)["id"])
    attempts = [attempt["error"] or f"taken ({attempt['status_code']})" for attempt in delivery["attempts"]]
    at = [time_of(attempt["at"]) for attempt in delivery["attempts"]]
    pauses = ", ".join(f"{later - earlier:.1f}" for earlier, later in itertools.pairwise(at))
    seconds = ", ".join(f"{attempt['seconds']:.2f}" for attempt in delivery["attempts"])
    words = attempts[0] if len(set(attempts)) == 1 else "; ".join(attempts)
    return f"| {name} | {delivery['status']} | {len(attempts)} | {words} | {seconds} | {pauses} |"


def time_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def what_receivers_do(deployment: Deployment, untrusted: ssl.SSLContext) -> None:
    print("\n| the receiver | the delivery | attempts | | seconds of each | between them |")
    print("|---|---|---:|---|---|---|")
    with deployment.client() as api:
        for name, behaviours in BEHAVIOURS:
            with receiving(*behaviours) as receiver:
                print(row(api, name, receiver.url), flush=True)
        with receiving(tls=untrusted) as receiver:
            print(row(api, "a certificate that is not trusted", receiver.url), flush=True)
        print(row(api, "no server listens", f"http://127.0.0.1:{free_port()}/"), flush=True)


def what_is_refused(deployment: Deployment) -> None:
    print("\n| `webhook_url` | answer |\n|---|---|")
    with deployment.client() as api:
        for url in REFUSED:
            problem = api.process(IMAGE, ["convert_png"], webhook_url=url).json()
            print(f"| `{url}` | {problem['status']} `{problem['code']}` |", flush=True)


def untrusted() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def send(database: Database, receivers: list[str], per_second: float) -> dict[str, float]:
    """Write deliveries at an even pace; returns the time at which each event was written."""
    written: dict[str, float] = {}
    began = time.monotonic()
    for number in range(DELIVERIES):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        with database.session() as session:
            event = Event(id=events.new_id(), type="webhook.test", created_at=from_now(), data={"number": number})
            session.add(event)
            session.flush()
            deliveries.create(session, event, Target(endpoint_id=None, url=receivers[number % HOSTS]))
        written[event.id] = time.monotonic()
    return written


def delays(database: Database, case: Case, per_second: float) -> tuple[list[float], int]:
    """Delays in seconds to nine healthy hosts during a case, and the number of requests to the tenth host."""
    with ExitStack() as stack:
        # each with its own address, because limits apply per address
        healthy = [stack.enter_context(receiving(host=f"127.0.1.{number}")) for number in range(1, HOSTS)]
        tenth = stack.enter_context(receiving(case.behave, host="127.0.1.10"))
        last = f"http://127.0.1.10:{free_port()}/" if case.refuses else tenth.url
        written = send(database, [receiver.url for receiver in healthy] + [last], per_second)
        deadline = time.monotonic() + 120
        while sum(len(receiver.requests) for receiver in healthy) < TO_OTHERS and time.monotonic() < deadline:
            time.sleep(0.05)
        arrived = first_arrivals(healthy)
        return [arrived[id_] - at for id_, at in written.items() if id_ in arrived], len(tenth.requests)


def first_arrivals(receivers: list[Receiver]) -> dict[str, float]:
    arrived: dict[str, float] = {}
    for receiver in receivers:
        for request in receiver.requests:
            arrived.setdefault(request.headers["webhook-id"], request.at)
    return arrived


def one_dead_host(database: Database, title: str, per_second: float) -> None:
    """Run the rounds of all cases in turns, so that other load on the machine affects all of them."""
    print(f"\n{DELIVERIES} deliveries, {title}; {ROUNDS} rounds in turns: milliseconds to the nine others\n")
    print("| the tenth host | arrived | p50 | p99, median of the rounds | p99, all | requests to the tenth |")
    print("|---|---:|---:|---:|---|---:|")
    found: dict[Case, list[list[float]]] = {case: [] for case in CASES}
    asked: dict[Case, int] = dict.fromkeys(CASES, 0)
    for _, case in itertools.product(range(ROUNDS), CASES):
        seconds, requests = delays(database, case, per_second)
        found[case].append(seconds)
        asked[case] += requests
    for case, rounds in found.items():
        p50 = statistics.median(itertools.chain(*rounds)) * 1000
        p99 = [statistics.quantiles(seconds, n=100)[98] * 1000 for seconds in rounds]
        spread = ", ".join(f"{value:.0f}" for value in sorted(p99))
        arrived = f"{sum(map(len, rounds))} of {ROUNDS * TO_OTHERS}"
        print(
            f"| {case.name} | {arrived} | {p50:.0f} | {statistics.median(p99):.0f} | {spread} | {asked[case]} |",
            flush=True,
        )


def breaker(deployment: Deployment) -> None:
    """Print the calls to a host that fails, is no longer called, and recovers."""
    print("\n| second | requests to the failing host | what it answers |\n|---:|---:|---|")
    with deployment.client() as api, receiving(answer(500)) as receiver:
        for _ in range(12):
            api.accepted(IMAGE, ["convert_png"], webhook_url=receiver.url)
        receiver.await_requests(1)
        began, last = time.monotonic(), 0
        for second in range(1, 25):
            time.sleep(max(0.0, began + second - time.monotonic()))
            count = len(receiver.requests)
            if count != last:
                print(f"| {second} | {count - last} | {'500' if second <= 10 else '204'} |", flush=True)
            last = count
            if second == 10:
                receiver.behave(answer(204))


@contextmanager
def running(folder: Path, servers: ClusterServers, **settings: str) -> Iterator[Deployment]:
    folder.mkdir()
    deployment = cluster(folder, servers, **(SETTINGS | settings))
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dead-host", action="store_true", help="only what a dead host does to others")
    options = parser.parse_args()
    with cluster_servers() as (folder, servers):
        if not options.dead_host:
            measure_receivers(folder, servers)
        measure_dead_host(folder, servers)


def measure_receivers(folder: Path, servers: ClusterServers) -> None:
    with running(folder / "table", servers) as deployment:
        what_receivers_do(deployment, untrusted())
    with running(folder / "refused", servers, PIXTOOLS_WEBHOOK_ALLOWED_NETWORKS="none") as deployment:
        what_is_refused(deployment)
    usual = {"PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "5", "PIXTOOLS_WEBHOOK_BREAKER_SECONDS": "4"}
    with running(folder / "breaker", servers, **usual, PIXTOOLS_WEBHOOK_RETRY_SECONDS="1,2,4,8") as deployment:
        breaker(deployment)


def measure_dead_host(folder: Path, servers: ClusterServers) -> None:
    defaults = {"PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": "15", "PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "5"}
    retries = "5,300,1800"
    with running(folder / "dead", servers, **defaults, PIXTOOLS_WEBHOOK_RETRY_SECONDS=retries) as deployment:
        database = Database(deployment.environment["PIXTOOLS_DATABASE_URL"])
        one_dead_host(database, f"{PER_SECOND} a second", PER_SECOND)
        one_dead_host(database, "as fast as they can be written", float("inf"))
        database.close()
