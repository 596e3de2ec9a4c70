"""The stage of the outages: a cluster behind proxies, a load, and a Prometheus with the shipped rules.

Only times differ from the shipped rules: thresholds, `for` and windows are shorter.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from obstore.store import S3Store

from app.operations import Queue
from tests.conftest import make_photo
from tests.support.alertmanager import Alertmanager
from tests.support.deployment import Deployment, cluster, free_port
from tests.support.fixtures import ClusterServers
from tests.support.prometheus import Prometheus
from tests.support.proxy import TcpProxy
from tests.support.receiver import Receiver, receiving

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "k8s" / "monitoring" / "prometheus"
THRESHOLDS = {"outbox_lag_seconds": "5", "queue_age_seconds": "10"}  # seconds; other thresholds do not change
WINDOWS = {"5m": "15s", "30m": "30s", "1h": "40s", "6h": "90s"}
FOR = "3s"
MAX_OPEN_JOBS = 60
SETTINGS = {
    "PIXTOOLS_MAX_OPEN_JOBS": str(MAX_OPEN_JOBS),
    "PIXTOOLS_TENANT_MAX_OPEN_JOBS": str(MAX_OPEN_JOBS),  # one tenant must be able to fill the service
    "PIXTOOLS_STEP_MAX_ATTEMPTS": "2",
    "PIXTOOLS_RECONCILE_SECONDS": "2",
    "PIXTOOLS_STEP_LEASE_SECONDS": "5",
    "PIXTOOLS_WEBHOOK_BREAKER_SECONDS": "5",
    "PIXTOOLS_WEBHOOK_RETRY_SECONDS": ",".join(["1"] * 20),
}
PROXIED = {"broker": "PIXTOOLS_BROKER_URL", "redis": "PIXTOOLS_REDIS_URL", "storage": "PIXTOOLS_S3_ENDPOINT"}
TREES: list[list[object]] = [
    ["convert_webp"],
    [{"op": "resize", "width": 200, "then": ["convert_jpeg", "convert_png"]}],
    [{"op": "blur", "sigma": 2, "then": ["convert_avif"]}],
]
PAUSE = 0.5  # seconds between two uploads of the load
IMAGE = make_photo(320, 240)


def fast_rules(folder: Path) -> list[Path]:
    """Write the shipped rules with short times to a folder; returns the files."""
    paths = []
    for name in ("thresholds", "slo", "alerts"):
        text = (SHIPPED / f"{name}.yaml").read_text()
        for threshold, value in THRESHOLDS.items():
            text = re.sub(rf"(:threshold:{threshold}\n +expr: )vector\(.*\)", rf"\g<1>vector({value})", text)
        text = re.sub(r"\[(5m|30m|1h|6h)\]", lambda found: f"[{WINDOWS[found[1]]}]", text)
        text = re.sub(r"( +for: )\w+", rf"\g<1>{FOR}", text)
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text)
    return paths


@dataclass
class Load:
    """Uploads images all the time, whether they are accepted or not."""

    url: str
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        while not self._stopping.wait(PAUSE):
            upload(self.url, TREES[number % len(TREES)])
            number += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        yield
        self._stopping.set()
        thread.join(10)


def upload(url: str, tree: list[object], *, image: bytes = IMAGE, **fields: str) -> None:
    """Upload an image; errors of the connection are expected, and ignored."""
    try:
        files = {"file": ("photo.jpg", image)}
        data = {"operations": json.dumps(tree), **fields}
        httpx.post(f"{url}/process", data=data, files=files, timeout=10)
    except httpx.HTTPError:
        time.sleep(PAUSE)


@dataclass
class Stage:
    """Everything that an outage can act on."""

    deployment: Deployment
    proxies: dict[str, TcpProxy]
    prometheus: Prometheus
    #: closed with the stage
    stack: ExitStack
    #: webhook receivers of Alertmanager's notifications, by name
    people: dict[str, Receiver]
    #: the bucket, past the proxy
    objects: S3Store

    def shown(self, receiver: str) -> list[dict[str, str]]:
        """Labels of the firing alerts that a receiver got."""
        requests = self.people[receiver].requests.copy()
        alerts = [alert for request in requests for alert in request.event["alerts"]]
        return [alert["labels"] for alert in alerts if alert["status"] == "firing"]


@contextmanager
def staged(servers: ClusterServers, folder: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        deployment = cluster(folder, servers, **SETTINGS)
        environment = deployment.environment
        proxies = {}
        for name, variable in PROXIED.items():
            url = urlsplit(environment[variable])
            proxies[name] = stack.enter_context(TcpProxy(str(url.hostname), int(url.port or 0)))
            environment[variable] = environment[variable].replace(f":{url.port}", f":{proxies[name].port}", 1)
        queues = [queue.value for queue in Queue if queue != Queue.SMALL]  # that is the spare process of the first
        workers = [["app", "worker", "--queue", queue, "--concurrency", "1"] for queue in queues]
        ports = [free_port() for _ in workers]
        deployment.commands = [["app", "api"], *workers]
        spawn = deployment._spawn

        def with_port(command: list[str]) -> object:
            port = ports[workers.index(command)] if command in workers else free_port()
            environment["PIXTOOLS_METRICS_PORT"] = str(port)
            return spawn(command)

        deployment._spawn = with_port  # type: ignore[method-assign,assignment]
        stack.callback(deployment.kill)
        deployment.start()
        rules = folder / "rules"
        rules.mkdir()
        targets = {
            "pixtools-api": [f"127.0.0.1:{deployment.port}"],
            "pixtools-worker": [f"127.0.0.1:{port}" for port in ports],
        }
        people = {name: stack.enter_context(receiving()) for name in ("page", "ticket", "watchdog")}
        alertmanager = Alertmanager(folder / "alertmanager", {name: found.url for name, found in people.items()})
        stack.callback(alertmanager.kill)
        alertmanager.start()
        prometheus = Prometheus(folder / "prometheus", targets, fast_rules(rules), [f"127.0.0.1:{alertmanager.port}"])
        stack.callback(prometheus.kill)
        prometheus.start()
        bucket = urlsplit(environment["PIXTOOLS_STORAGE_URL"]).netloc
        yield Stage(deployment, proxies, prometheus, stack, people, servers.object_store.store(bucket))
