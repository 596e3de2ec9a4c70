"""Health with every dependency taken away in turn, on the way to it."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.commands.running import look_at
from app.config import Settings
from app.doctor import examine
from app.operations import DEAD_LETTER_QUEUE, Queue
from app.services.monitoring.broker import queue_depths
from app.services.monitoring.checks import Health
from app.services.scheduling.window import Depth
from tests.conftest import make_photo
from tests.support.commands import Run, run
from tests.support.deployment import PLAIN, Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import command
from tests.support.proxy import TcpProxy
from tests.support.waiting import until

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
    #: the command of a worker that does not run
    ml_worker: list[str]

    def health(self) -> httpx.Response:
        return httpx.get(f"{self.deployment.url}/health", timeout=10, verify=PLAIN)

    def statuses(self, *paths: str) -> list[int]:
        """Of the answers to requests that are sent at once."""
        with ThreadPoolExecutor(len(paths)) as pool:
            answers = pool.map(lambda path: httpx.get(f"{self.deployment.url}{path}", timeout=10, verify=PLAIN), paths)
            return [answer.status_code for answer in answers]


@pytest.fixture(scope="module")
def proxied(cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """An API and a worker of the default queue."""
    running = cluster(tmp_path_factory.mktemp("proxied"), cluster_servers, ["default_queue", "ml_inference_queue"])
    ml_worker = running.commands.pop()
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
        proxied = Proxied(running, proxies, ml_worker)
        # the API is ready before the worker takes messages
        await_answer(proxied, lambda shown: shown["queues"].get("default_queue") == {"messages": 0, "workers": 1})
        yield proxied


def await_answer(proxied: Proxied, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer of `/health` that is wanted."""
    deadline = time.monotonic() + PATIENCE
    while True:
        shown: dict[str, Any] = proxied.health().json()
        assert "checks" in shown, shown
        if is_wanted(shown):
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.3)


def is_well(shown: dict[str, Any]) -> bool:
    """Whether nothing is away, and every check had its answer in time, which a busy machine may not give."""
    return bool(shown["status"] == "ok")


def degraded(shown: dict[str, Any]) -> dict[str, str]:
    """Why, by part."""
    return {part: check["error"] for part, check in shown["checks"].items() if check["status"] == "degraded"}


def down(shown: dict[str, Any]) -> set[str]:
    return {part for part in ADDRESSES if shown["checks"][part]["status"] == "down"}


def asked_doctor(proxied: Proxied, is_wanted: Callable[[str], bool]) -> str:
    """What the doctor says of the dependencies, once it is as wanted; on a busy machine one may seem away."""

    def said() -> str:
        findings = examine(settings_of(proxied.deployment))
        words = "\n".join(map(str, takewhile(lambda finding: finding.subject != "schema", findings)))
        return words if is_wanted(words) else ""

    return str(until(said))


def settings_of(deployment: Deployment) -> Settings:
    given = deployment.environment.items()
    values: dict[str, Any] = {name.removeprefix("PIXTOOLS_").lower(): value for name, value in given if value}
    return Settings(_env_file=None, **values)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("cut", ("broker", "redis")),
        ("cut", ("database",)),
        ("cut", ("storage",)),
        ("blackhole", ("database",)),
        # a check that gets no answer ends by the same time-out, whatever it checks
        *(pytest.param("blackhole", (part,), marks=pytest.mark.full) for part in ("broker", "redis", "storage")),
    ],
)
def test_health_tells_what_is_away_and_that_it_is_back(proxied: Proxied, how: str, parts: tuple[str, ...]) -> None:
    shown = await_answer(proxied, is_well)
    assert set(shown["checks"]) == {"database", "storage", "disk", "redis", "broker", "workers", "model"}
    api = proxied.deployment.processes[0]
    for part in parts:
        getattr(proxied.proxies[part], how)()
    try:
        shown = await_answer(proxied, lambda shown: down(shown) == set(parts))
        assert shown["status"] == ("down" if ESSENTIAL & set(parts) else "degraded")
        assert all(check["seconds"] < 5 for check in shown["checks"].values())
        expected = 503 if ESSENTIAL & set(parts) else 200

        def are_told() -> bool:
            whole, ready, live, metrics = proxied.statuses("/health", "/health/ready", "/health/live", "/metrics")
            assert live == 200, "a blip must not restart the API"
            assert metrics == 200
            return (whole, ready) == (expected, expected)

        until(are_told)
        if how == "cut":
            doctor = asked_doctor(proxied, lambda said: said.count("FAIL") == len(parts))
            for part in parts:
                (line,) = [line for line in doctor.splitlines() if line.startswith(f"FAIL  {part}")]
                assert ADDRESSES[part] in line.split(" -> ")[1]
            assert "@127.0.0.1" not in doctor, "no URL with a password"
    finally:
        for part in parts:
            proxied.proxies[part].heal()
    await_answer(proxied, is_well)
    assert api.poll() is None


@pytest.mark.integration
def test_a_queue_that_no_worker_has_declared_is_empty(cluster_servers: ClusterServers) -> None:
    empty = Depth(messages=0, workers=0)
    assert queue_depths(cluster_servers.rabbitmq.new_vhost()) == dict.fromkeys((*Queue, DEAD_LETTER_QUEUE), empty)


@pytest.mark.integration
def test_a_missing_ml_worker_degrades_and_jobs_are_still_accepted(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing waits for it: KEDA may have ended it
    shown = await_answer(proxied, is_well)
    assert shown["queues"]["ml_inference_queue"]["workers"] == 0
    assert shown["checks"]["model"]["status"] == shown["checks"]["workers"]["status"] == "ok"
    with proxied.deployment.client() as client:
        job = client.accepted(make_photo(64, 48), ["denoise"])
    missing = {"workers": "no worker for ml_inference_queue", "model": "no worker runs the network"}
    shown = await_answer(proxied, lambda shown: degraded(shown) == missing)
    assert shown["status"] == "degraded"
    assert shown["queues"]["ml_inference_queue"]["workers"] == 0
    assert shown["queues"]["default_queue"]["workers"] == 1
    until(lambda: proxied.statuses("/health/ready") == [200])
    monkeypatch.setenv("PIXTOOLS_URL", proxied.deployment.url)
    assert "Waiting for a worker of ml_inference_queue: 0 denoise" in run("jobs", "explain", job["id"]).stdout
    doctor = asked_doctor(proxied, lambda said: "FAIL" not in said)
    assert "note  workers   no worker for ml_inference_queue -> start them" in doctor
    proxied.deployment.commands.append(proxied.ml_worker)
    proxied.deployment.processes.append(proxied.deployment.restart(-1))
    await_answer(proxied, lambda shown: "workers" not in degraded(shown))
    with proxied.deployment.client() as client:
        assert client.ended(job["id"])["status"] == "completed"


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_the_single_process_knows_its_own_workers(deployment: Deployment) -> None:
    shown = until(lambda: is_well(found := httpx.get(f"{deployment.url}/health", timeout=10).json()) and found)
    assert {name: check["status"] for name, check in shown["checks"].items()} == dict.fromkeys(
        ("database", "storage", "disk", "workers", "model"), "ok"
    )


def test_the_doctor_looks_at_this_machine(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path / "data",
        denoise_weights=Path("/nowhere"),
        pixel_process_memory_bytes=300_000_000,
        otlp_endpoint="http://127.0.0.1:1",
    )
    said = "\n".join(map(str, examine(settings)))
    for line in ("FAIL  weights", "pixels", "note  traces    the collector of traces does not answer"):
        assert line in said
    wrong = {"PIXTOOLS_SPOOL_DIR": "/proc/nowhere", "PIXTOOLS_BROKER_URL": "amqp://u:p@127.0.0.1:1//"}
    done = command(embedded(tmp_path, **wrong), "doctor")
    for line in ("FAIL  spool", "FAIL  mode      the database is SQLite"):
        assert line in done.stdout
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_doctor_asks_the_server_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, elsewhere = embedded(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()

    def seen(folder: Path, path: str = "") -> str:
        """What the doctor says of the server."""
        settings = Settings(_env_file=None, data_dir=folder)
        return "\n".join(map(str, look_at(f"{running.url}{path}", settings)))

    def reached(folder: Path) -> str:
        said = seen(folder)  # a busy machine may give the server no time to say it at first
        return said if "ok    server    reaches its database" in said else ""

    data = tmp_path / "data"
    running.start()
    try:
        own, other, wrong = until(partial(reached, data)), seen(elsewhere), seen(elsewhere, "/help")
        with running.client() as client:  # over HTTP, so that the server knows of the key at once
            key = client.http.post("/keys", json={"scopes": ["admin"]}).json()["key"]
        without_key = seen(data)
        monkeypatch.setenv("PIXTOOLS_KEY", key)
        with_key = until(partial(reached, data))
    finally:
        running.stop()
    assert f"ok    server    answers at {running.url}" in own
    assert "note  server" not in own
    assert f"note  server    does not use the data folder {elsewhere}" in other
    assert "FAIL  server    the program that answers at" in wrong
    assert "note  server    shows the state of its parts only to a key with the scope admin" in without_key
    assert f"ok    server    answers at {running.url}" in with_key
    away = command(embedded(elsewhere), "doctor", "--server", running.url)
    assert f"note  server    does not answer at {running.url} -> start it" in away.stdout
    assert "will be made at the first start" in away.stdout
    assert away.returncode == 0, "before the first start there is nothing to repair"
    assert not (elsewhere / "data" / "pixtools.db").exists()


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


def test_explaining_what_is_not_there(pixtools: Run, tmp_path: Path) -> None:
    assert pixtools("migrate").exit_code == 0
    for job_id in ("x", "01a20cac-c361-7262-b82c-57f5cc454359"):
        ran = pixtools("server", "explain", job_id)
        assert ran.exit_code == 1
        assert ran.stderr.startswith(f"From the database sqlite:///{tmp_path}")
        assert f"There is no job {job_id}." in f"{ran.stderr}{ran.exception}"
