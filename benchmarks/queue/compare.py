"""The cost of a job besides its pixels: PixTools in both modes, and a queue of Express, multer, BullMQ and sharp.

    python -m benchmarks queue [--rounds 3] [--jobs 200] [--before checkout]

Every job converts the JPEG of 315 kB in docs/ to a WebP of 640 pixels, quality 80, effort 4. Eight clients submit 200
jobs, which are then polled in turn. All services run the whole time, and take turns. The peer is a service that can be
written in an afternoon (benchmarks/queue/peer): it makes five attempts and keeps files on a disk, but has no rows that
survive a power failure, no check of the upload, no idempotency, no events and no limits. Its Redis has the defaults.

It prints jobs per second from the first request to the end of the last job, and CPU milliseconds per job, for the
service's own processes and for the servers that it uses. Then, with the workers stopped, it prints accepted uploads per
second. All figures are medians of the rounds. The clients run on the same cores, but their CPU time does not count.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.deployments import CACHE, CLUSTER, EMBEDDED, as_in_production, of_checkout
from benchmarks.processes import Meter, family
from tests.support.deployment import ROOT, Deployment, cluster, embedded, free_port
from tests.support.fixtures import ServerPool
from tests.support.server import Server

PEER, BEFORE = "BullMQ and sharp", "PixTools before"
CLIENTS = 8
WARM_UP = 20  # jobs
POLL = 0.05  # seconds between two requests for an unfinished job
SETTLE = 1.0  # seconds after a round that still count
BOUNDARY = "bench-queue"
IMAGE = ROOT / "docs" / "sample.jpg"
TREE = [{"op": "resize", "width": 640, "then": [{"op": "convert_webp", "quality": 80, "effort": 4}]}]
SOURCE = Path(__file__).parent / "peer"
NEEDED = {"node": "nodejs", "npm": "npm", "redis-server": "redis-server"}  # programs and their Debian packages
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass
class Round:
    """The figures of a round."""

    #: jobs or uploads per second
    rate: float
    #: CPU milliseconds of each, in the service's own processes and in its servers
    own: float
    servers: float


@dataclass
class Contestant:
    """A running service."""

    name: str
    port: int
    meter: Meter
    stop_workers: Callable[[], None]
    jobs: list[Round] = field(default_factory=list)
    accepted: list[Round] = field(default_factory=list)

    def measured(self, work: Callable[[int, int], object], count: int) -> Round:
        spent = self.meter.spent(lambda: work(self.port, count), SETTLE)
        return Round(count / spent.wall, spent.own * 1000 / count, spent.servers * 1000 / count)


def form() -> bytes:
    """The body of an upload; the peer ignores its tree."""
    parts = (
        b'Content-Disposition: form-data; name="operations"\r\n\r\n' + json.dumps(TREE).encode(),
        b'Content-Disposition: form-data; name="file"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + IMAGE.read_bytes(),
    )
    line = f"--{BOUNDARY}".encode()
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


FORM = form()


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
    """Send a request with a client that uses little CPU time, since it runs on the same cores; returns the response."""
    connection.request(method, path, body, HEADERS if body else {})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status in {200, 202}, content
    return dict(json.loads(content))


def submit(port: int, count: int) -> list[str]:
    """Submit jobs; returns their ids, roughly in the order of acceptance."""

    def one_client(number: int) -> list[str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        return [str(ask(connection, "POST", "/process", FORM)["id"]) for _ in range(number)]

    shares = [count // CLIENTS + (number < count % CLIENTS) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        ids = list(pool.map(one_client, shares))
    return [job for turn in range(max(shares)) for client in ids for job in client[turn : turn + 1]]


def run(port: int, count: int) -> None:
    """Submit jobs and wait for the end of all."""
    ids = submit(port, count)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for job in ids:
        while (found := ask(connection, "GET", f"/jobs/{job}"))["status"] != "completed":
            assert found["status"] not in {"failed", "cancelled"}, found
            time.sleep(POLL)


def until_ready(port: int) -> None:
    for _ in range(100):
        with suppress(OSError, AssertionError):
            ask(HTTPConnection("127.0.0.1", port, timeout=5), "GET", "/health/ready")
            return
        time.sleep(0.1)
    raise SystemExit("the peer did not start")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def missing() -> list[str]:
    return [package for program, package in NEEDED.items() if shutil.which(program) is None]


def install(home: Path) -> None:
    """Install the peer's packages exactly as in its lock file."""
    shutil.copytree(SOURCE, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--prefix", home, "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"npm could not install the peer: {done.stderr[-500:]}")


@contextmanager
def peer(folder: Path, home: Path) -> Iterator[Contestant]:
    """The peer with its own Redis."""
    redis_port, port = free_port(), free_port()
    environment = {**os.environ, "PORT": str(port), "REDIS_PORT": str(redis_port), "FOLDER": str(folder)}
    with (folder / "log").open("wb") as log, ExitStack() as stack:

        def started(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
            stack.callback(end, process)
            return process

        redis = started("redis-server", "--bind", "127.0.0.1", "--port", str(redis_port))
        api = started("node", str(home / "api.js"))
        worker = started("node", str(home / "worker.js"))
        until_ready(port)
        yield Contestant(
            PEER,
            port,
            Meter(lambda: family([api.pid, worker.pid]), lambda: family([redis.pid])),
            partial(end, worker),
        )


@contextmanager
def pixtools(name: str, deployment: Deployment, servers: Iterable[Server] = ()) -> Iterator[Contestant]:

    def stop_workers() -> None:
        if deployment.mode == "cluster":
            for process in deployment.processes[1:]:
                end(process)
            return
        end(deployment.processes[0])
        deployment.commands[0] = ["benchmarks.queue.idle"]
        deployment.start()

    try:
        as_in_production(deployment).start()
        yield Contestant(
            name,
            deployment.port,
            Meter(
                lambda: family(process.pid for process in deployment.processes if process.poll() is None),
                lambda: {process.pid for server in servers for process in server.processes()},
            ),
            stop_workers,
        )
    finally:
        deployment.stop()


@contextmanager
def contestants(folder: Path, home: Path, before: Path | None, only: Sequence[str]) -> Iterator[list[Contestant]]:
    def own(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    with ExitStack() as stack:
        found = []
        if "peer" in only:
            found.append(stack.enter_context(peer(own("peer"), home)))
        if before:
            found.append(stack.enter_context(pixtools(BEFORE, of_checkout(own("before"), before))))
        if "embedded" in only:
            found.append(stack.enter_context(pixtools(EMBEDDED, embedded(own("embedded")))))
        if "cluster" in only:
            pool = ServerPool(folder / "servers")
            stack.callback(pool.stop)
            servers = pool.cluster()
            there = cluster(own("cluster"), servers)
            found.append(stack.enter_context(pixtools(CLUSTER, there, vars(servers).values())))
        yield found


def measure(found: Sequence[Contestant], rounds: int, count: int) -> None:
    """Let all contestants do jobs in turn; then, without workers, let all accept jobs in turn."""
    for one in found:
        run(one.port, WARM_UP)
        one.meter.rest()
    for _ in range(rounds):
        for one in found:
            one.jobs.append(one.measured(run, count))
            show(one.name, one.jobs[-1])
    for one in found:
        one.stop_workers()
        submit(one.port, WARM_UP)
    for _ in range(rounds):
        for one in found:
            one.accepted.append(one.measured(submit, count))
            show(one.name, one.accepted[-1])


def show(name: str, seen: Round) -> None:
    print(f"{name}: {seen.rate:.1f}/s, CPU {seen.own:.1f} + {seen.servers:.1f} ms", file=sys.stderr, flush=True)


def median(rounds: Sequence[Round], name: str) -> float:
    return statistics.median(getattr(one, name) for one in rounds)


def report(found: Sequence[Contestant]) -> None:
    print("| | jobs/s | CPU ms a job | its servers | accepted/s | CPU ms | its servers | idle, ms/s | its servers |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in found:
        shown = [median(rounds, name) for rounds in (one.jobs, one.accepted) for name in ("rate", "own", "servers")]
        idle = [1000 * share for share in one.meter.idle]
        print(f"| {one.name} | {' | '.join(f'{value:.1f}' for value in [*shown, *idle])} |")
    first = found[0]
    if len(found) == 1:
        return
    print(f"\n| as multiples of {first.name} | jobs/s | CPU a job | with servers | accepted/s |")
    print("|---|---:|---:|---:|---:|")
    for one in found[1:]:
        ratios = [
            median(one.jobs, "rate") / median(first.jobs, "rate"),
            median(one.jobs, "own") / median(first.jobs, "own"),
            whole(one) / whole(first),
            median(one.accepted, "rate") / median(first.accepted, "rate"),
        ]
        print(f"| {one.name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


def whole(one: Contestant) -> float:
    """CPU milliseconds per job, including servers."""
    return median(one.jobs, "own") + median(one.jobs, "servers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--only", default="peer,embedded,cluster", help="which contestants run")
    parser.add_argument("--before", type=Path, help="another checkout, whose single process takes part as well")
    parser.add_argument("--peers", type=Path, default=CACHE, help="where npm installs the peer")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything that was started ends too
    only = options.only.split(",")
    home = (options.peers / "queue").absolute()
    if "peer" in only:
        if packages := missing():
            raise SystemExit(
                f"The peer needs {', '.join(packages)} of this machine (Debian: apt-get install nodejs npm)."
            )
        install(home)
    with tempfile.TemporaryDirectory() as name, contestants(Path(name), home, options.before, only) as found:
        print(f"Medians of {options.rounds} rounds of {options.jobs} jobs by {CLIENTS} clients\n", flush=True)
        measure(found, options.rounds, options.jobs)
        report(found)
