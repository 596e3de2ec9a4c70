"""What becomes of webhooks: one table of what receivers may do, one of what a dead host does to others.

    make bench-webhooks

starts all servers and PixTools as the tests do. The first table has one job for each row, sent to a receiver that
behaves as it says, with pauses of a second between attempts. For the second, a thousand deliveries to ten hosts are
written at an even pace, in turns with ten healthy hosts, with one that takes requests and never answers, and with one
that nobody listens at; the time from the row to the receiver is that of the nine others.
"""

import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

sys.path.insert(0, str(Path(__file__).parent.parent))

import itertools

from app.database import Database, from_now
from app.models import Event
from app.services import deliveries, events
from app.services.endpoints import Target
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, cluster, free_port
from tests.support.fixtures import ClusterServers, ServerPool
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
TIMEOUT = 2  # seconds of an attempt
HOSTS = 10
DELIVERIES = 1000
PER_SECOND = 25
ROUNDS = 2
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
    "http://user:password@example.org/",
    "http://8.8.8.8:6379/",
)


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
            print(row(api, "a certificate that nobody trusts", receiver.url), flush=True)
        print(row(api, "nobody listens", f"http://127.0.0.1:{free_port()}/"), flush=True)


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


def send(database: Database, receivers: list[str]) -> dict[str, float]:
    """Write deliveries at an even pace; when each event was written."""
    written: dict[str, float] = {}
    began = time.monotonic()
    for number in range(DELIVERIES):
        time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        with database.session() as session:
            event = Event(id=events.new_id(), type="webhook.test", created_at=from_now(), data={"number": number})
            session.add(event)
            session.flush()
            deliveries.create(session, event, Target(endpoint_id=None, url=receivers[number % HOSTS]))
        written[event.id] = time.monotonic()
    return written


def delays(database: Database, last: str | None, behave: Behaviour) -> tuple[list[float], int]:
    """Seconds to nine healthy hosts while the tenth is as told, and how many requests that one got."""
    with ExitStack() as stack:
        healthy = [stack.enter_context(receiving()) for _ in range(HOSTS - 1)]
        tenth = stack.enter_context(receiving(behave))
        written = send(database, [receiver.url for receiver in healthy] + [last or tenth.url])
        wanted = DELIVERIES * (HOSTS - 1) // HOSTS
        deadline = time.monotonic() + 120
        while sum(len(receiver.requests) for receiver in healthy) < wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        arrived = first_arrivals(healthy)
        return [arrived[id_] - at for id_, at in written.items() if id_ in arrived], len(tenth.requests)


def first_arrivals(receivers: list[Receiver]) -> dict[str, float]:
    arrived: dict[str, float] = {}
    for receiver in receivers:
        for request in receiver.requests:
            arrived.setdefault(request.headers["webhook-id"], request.at)
    return arrived


def one_dead_host(database: Database) -> None:
    print(f"\n{DELIVERIES} deliveries, {PER_SECOND} a second, {ROUNDS} rounds: milliseconds to the nine others\n")
    print("| the tenth host | arrived | p50 | p99 | longest | requests to the tenth |\n|---|---:|---:|---:|---:|---:|")
    nowhere = f"http://127.0.0.1:{free_port()}/"
    cases: list[tuple[str, str | None, Behaviour]] = [
        ("healthy", None, answer(204)),
        ("takes requests and never answers", None, hang),
        ("refuses connections", nowhere, hang),
    ]
    found: dict[str, list[float]] = {name: [] for name, *_ in cases}
    asked: dict[str, int] = dict.fromkeys(found, 0)
    for _ in range(ROUNDS):
        for name, url, behave in cases:
            seconds, requests = delays(database, url, behave)
            found[name] += seconds
            asked[name] += requests
    for name, seconds in found.items():
        cut = statistics.quantiles(seconds, n=100)
        wanted = ROUNDS * DELIVERIES * (HOSTS - 1) // HOSTS
        figures = f"{cut[49] * 1000:.0f} | {cut[98] * 1000:.0f} | {max(seconds) * 1000:.0f}"
        print(f"| {name} | {len(seconds)} of {wanted} | {figures} | {asked[name]} |", flush=True)


def breaker(deployment: Deployment) -> None:
    """A host that fails, is left alone, and comes back."""
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = ServerPool(folder / "servers")
        servers = pool.cluster()
        try:
            measure(folder, servers)
        finally:
            pool.stop()


def measure(folder: Path, servers: ClusterServers) -> None:
    with running(folder / "table", servers) as deployment:
        what_receivers_do(deployment, untrusted())
    with running(folder / "refused", servers, PIXTOOLS_WEBHOOK_ALLOWED_NETWORKS="none") as deployment:
        what_is_refused(deployment)
    usual = {"PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "5", "PIXTOOLS_WEBHOOK_BREAKER_SECONDS": "4"}
    with running(folder / "breaker", servers, **usual, PIXTOOLS_WEBHOOK_RETRY_SECONDS="1,2,4,8") as deployment:
        breaker(deployment)
    defaults = {"PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": "15", "PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "5"}
    retries = "5,300,1800"
    with running(folder / "dead", servers, **defaults, PIXTOOLS_WEBHOOK_RETRY_SECONDS=retries) as deployment:
        database = Database(deployment.environment["PIXTOOLS_DATABASE_URL"])
        one_dead_host(database)
        database.close()


if __name__ == "__main__":
    main()
