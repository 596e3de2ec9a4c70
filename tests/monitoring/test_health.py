"""Health with every dependency taken away in turn, on the way to it."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.commands.running import look_at
from app.config import Settings
from app.doctor import examine
from app.services.monitoring.checks import Health
from tests.conftest import make_photo
from tests.support.deployment import PLAIN, Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import command
from tests.support.proxy import TcpProxy

ROOT = Path(__file__).parents[2]
NOBODY = 65534  # the user without rights
PATIENCE = 30.0  # seconds until the service must have noticed
ADDRESSES = {
    "database": "PIXTOOLS_DATABASE_URL",
    "broker": "PIXTOOLS_BROKER_URL",
    "redis": "PIXTOOLS_REDIS_URL",
    "storage": "PIXTOOLS_S3_ENDPOINT",
}
ESSENTIAL = {"database", "storage"}


@dataclass
class Proxied:
    """A cluster that reaches every server through a proxy."""

    deployment: Deployment
    proxies: dict[str, TcpProxy]

    def health(self) -> httpx.Response:
        return httpx.get(f"{self.deployment.url}/health", timeout=10, verify=PLAIN)

    def statuses(self, *paths: str) -> list[int]:
        """Of the answers to requests that are sent at once."""
        with ThreadPoolExecutor(len(paths)) as pool:
            answers = pool.map(lambda path: httpx.get(f"{self.deployment.url}{path}", timeout=10, verify=PLAIN), paths)
            return [answer.status_code for answer in answers]


@pytest.fixture(scope="module")
def proxied(cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    running = cluster(tmp_path_factory.mktemp("proxied"), cluster_servers)
    running.environment["PIXTOOLS_METRICS_PORT"] = ""
    with ExitStack() as stack:
        proxies = {}
        for name, variable in ADDRESSES.items():
            url = urlsplit(running.environment[variable])
            proxy = proxies[name] = stack.enter_context(TcpProxy(str(url.hostname), int(url.port or 0)))
            changed = running.environment[variable].replace(f":{url.port}", f":{proxy.port}", 1)
            running.environment[variable] = changed
        running.start()
        stack.callback(running.stop)
        yield Proxied(running, proxies)


def await_health(proxied: Proxied, part: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        shown: dict[str, Any] = proxied.health().json()
        assert "checks" in shown, shown
        if shown["checks"][part]["status"] == status:
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.3)


@pytest.mark.integration
@pytest.mark.parametrize("how", ["cut", "blackhole"])
@pytest.mark.parametrize("part", ADDRESSES)
def test_health_tells_what_is_away_and_that_it_is_back(proxied: Proxied, part: str, how: str) -> None:
    shown = await_health(proxied, part, "ok")
    assert set(shown["checks"]) == {"database", "storage", "disk", "redis", "broker", "workers", "model"}
    api = proxied.deployment.processes[0]
    getattr(proxied.proxies[part], how)()
    try:
        shown = await_health(proxied, part, "down")
        assert shown["status"] == ("down" if part in ESSENTIAL else "degraded")
        assert all(check["seconds"] < 5 for check in shown["checks"].values())
        expected = 503 if part in ESSENTIAL else 200
        whole, ready, live, metrics = proxied.statuses("/health", "/health/ready", "/health/live", "/metrics")
        assert (whole, ready) == (expected, expected)
        assert live == 200, "a blip must not restart the API"
        assert metrics == 200
    finally:
        proxied.proxies[part].heal()
    await_health(proxied, part, "ok")
    assert api.poll() is None


@pytest.mark.integration
def test_a_missing_ml_worker_degrades_and_jobs_are_still_accepted(proxied: Proxied) -> None:
    await_health(proxied, "model", "ok")
    worker = proxied.deployment.processes[2]
    worker.terminate()
    worker.wait(30)
    try:
        # Nothing waits for it: KEDA may have ended it.
        deadline = time.monotonic() + PATIENCE
        while (shown := proxied.health().json())["queues"]["ml_inference_queue"]["workers"]:
            assert time.monotonic() < deadline, shown
            time.sleep(0.3)
        assert shown["status"] == shown["checks"]["workers"]["status"] == shown["checks"]["model"]["status"] == "ok"
        with proxied.deployment.client() as client:
            job = client.accepted(make_photo(64, 48), ["denoise"])
        shown = await_health(proxied, "workers", "degraded")
        assert shown["status"] == "degraded"
        assert shown["checks"]["workers"]["error"] == "no worker for ml_inference_queue"
        assert shown["checks"]["model"]["status"] == "degraded"
        assert shown["queues"]["ml_inference_queue"]["workers"] == 0
        assert shown["queues"]["default_queue"]["workers"] == 1
        assert proxied.statuses("/health/ready") == [200]
        explained = command(proxied.deployment, "jobs", "explain", job["id"])
        assert "Waiting for a worker of ml_inference_queue: 0 denoise" in explained.stdout
        doctor = command(proxied.deployment, "doctor")
        assert "note  workers   no worker for ml_inference_queue -> start them" in doctor.stdout
        assert doctor.returncode == 0, doctor.stdout
    finally:
        proxied.deployment.processes[2] = proxied.deployment.restart(2)
    await_health(proxied, "workers", "ok")
    with proxied.deployment.client() as client:
        assert client.ended(job["id"])["status"] == "completed"


@pytest.mark.integration
@pytest.mark.parametrize(("part", "variable"), ADDRESSES.items())
def test_the_doctor_says_what_to_do(proxied: Proxied, part: str, variable: str) -> None:
    proxied.proxies[part].cut()
    try:
        done = command(proxied.deployment, "doctor")
    finally:
        proxied.proxies[part].heal()
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"FAIL  {part}")]
    assert variable in line.split(" -> ")[1]
    assert "@127.0.0.1" not in done.stdout + done.stderr, "no URL with a password"


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_the_single_process_knows_its_own_workers(deployment: Deployment) -> None:
    shown = httpx.get(f"{deployment.url}/health", timeout=10).json()
    assert shown["status"] == "ok"
    assert {name: check["status"] for name, check in shown["checks"].items()} == dict.fromkeys(
        ("database", "storage", "disk", "workers", "model"), "ok"
    )


@pytest.mark.parametrize(
    "said",
    [
        {
            ("PIXTOOLS_DENOISE_WEIGHTS", "/nowhere"): "FAIL  weights",
            ("PIXTOOLS_PIXEL_PROCESS_MEMORY_BYTES", "200000000"): "pixels",
        },
        {("PIXTOOLS_OTLP_ENDPOINT", "http://127.0.0.1:1"): "note  traces    the collector of traces does not answer"},
        {
            ("PIXTOOLS_SPOOL_DIR", "/proc/nowhere"): "FAIL  spool",
            ("PIXTOOLS_BROKER_URL", "amqp://u:p@127.0.0.1:1//"): "FAIL  mode      the database is SQLite",
        },
    ],
    ids=["weights, memory", "traces", "spool, broker"],
)
def test_the_doctor_looks_at_this_machine(tmp_path: Path, said: dict[tuple[str, str], str]) -> None:
    done = command(embedded(tmp_path, **dict(said.keys())), "doctor")
    assert all(line in done.stdout for line in said.values()), done.stdout
    assert done.returncode == int("FAIL" in done.stdout)
    assert "Traceback" not in done.stderr


def test_the_doctor_asks_the_server_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, elsewhere = embedded(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()

    def seen(folder: Path, path: str = "") -> str:
        """What the doctor says of the server."""
        settings = Settings(_env_file=None, data_dir=folder)
        return "\n".join(map(str, look_at(f"{running.url}{path}", settings)))

    data = tmp_path / "data"
    running.start()
    try:
        done = command(running, "doctor")
        other, wrong = seen(elsewhere), seen(elsewhere, "/help")
        with running.client() as client:  # over HTTP, so that the server knows of the key at once
            key = client.http.post("/keys", json={"scopes": ["admin"]}).json()["key"]
        without_key = seen(data)
        monkeypatch.setenv("PIXTOOLS_KEY", key)
        with_key = seen(data)
    finally:
        running.stop()
    away = command(embedded(elsewhere), "doctor", "--server", running.url)
    assert done.returncode == 0, done.stdout
    assert f"ok    server    answers at {running.url}" in done.stdout
    assert "ok    server    reaches its database" in done.stdout
    assert "note  server" not in done.stdout
    assert f"note  server    does not use the data folder {elsewhere}" in other
    assert "FAIL  server    the program that answers at" in wrong
    assert "note  server    shows the state of its parts only to a key with the scope admin" in without_key
    assert "ok    server    reaches its database" in with_key
    assert f"note  server    does not answer at {running.url} -> start it" in away.stdout
    assert away.returncode == 0


def test_the_doctor_finds_nothing_before_the_first_start(tmp_path: Path) -> None:
    done = command(embedded(tmp_path), "doctor")
    assert done.returncode == 0, done.stdout
    assert "will be made at the first start" in done.stdout
    assert not (tmp_path / "data" / "pixtools.db").exists()


def test_the_doctor_tells_of_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    was_root = os.geteuid() == 0
    if was_root:  # for whom nothing is locked
        os.seteuid(NOBODY)
    try:
        found = list(examine(Settings(_env_file=None, data_dir=tmp_path / "data")))
    finally:
        if was_root:
            os.seteuid(0)
        tmp_path.chmod(0o700)
    assert [finding.subject for finding in found if finding.health is Health.DOWN] == ["spool"]


def test_explaining_what_is_not_there(tmp_path: Path) -> None:
    running = embedded(tmp_path)
    command(running, "migrate")
    for job_id in ("x", "01a20cac-c361-7262-b82c-57f5cc454359"):
        done = command(running, "server", "explain", job_id)
        assert done.returncode == 1
        where, said = done.stderr.splitlines()
        assert where.startswith(f"From the database sqlite:///{tmp_path}")
        assert said == f"There is no job {job_id}."
