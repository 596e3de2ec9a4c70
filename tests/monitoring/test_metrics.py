"""Metrics of real processes: what they count, that they count together, and that labels are closed."""

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client import Metric

from app import errors, metrics, slots
from app.formats import FORMATS
from app.models import JobStatus
from app.operations import DEAD_LETTER_QUEUE, FETCH, OPERATIONS, Queue
from app.routers import docs
from app.routers.problem_schema import PROBLEM_CODES
from app.routers.site import SITE
from app.services.execution.fetching import KINDS
from app.services.live import Ended
from app.tasks.signals import serve_metrics
from tests.conftest import make_photo
from tests.support.catalogue import all_names, classes_below
from tests.support.deployment import PLAIN, START_TIMEOUT, Deployment, cluster, free_port
from tests.support.fixtures import ClusterServers
from tests.support.proxy import TcpProxy
from tests.support.scraping import PATIENCE, await_total, scrape, summed, total
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


def settled(url: str) -> list[Metric]:
    """The metrics when no job runs and what has just ended is counted."""
    await_total(url, 0, "pixtools_open_jobs")
    before, seen = -1.0, total(url, "pixtools_steps_total")
    while before != seen:
        time.sleep(0.5)
        before, seen = seen, total(url, "pixtools_steps_total")
    return scrape(url)


CODES = {kind.code for kind in classes_below(errors.PixToolsError)}
QUEUES = {queue.value for queue in Queue}
# routes that the description leaves out
PAGES = {route.path for router in (docs.router, *SITE) for route in router.routes} | {"/openapi.json"}
CLOSED: dict[str, dict[str, set[str]]] = {
    "": {
        "op": {*OPERATIONS, FETCH},
        "queue": {*QUEUES, metrics.OTHER, DEAD_LETTER_QUEUE},
        "format": set(FORMATS),
        "code": CODES,
        "method": {*metrics.METHODS, metrics.OTHER},
        "status": {*JobStatus, *map(str, range(200, 600))},
        "fault": {"none", "input", "service"},
        "kind": {"expired", "silent", "webhooks"},
        "reason": {*metrics.DEAD_LETTER_REASONS, metrics.OTHER},
        "dependency": {"database", "disk", "storage", "redis", "broker", "workers", "model"},
        "state": {"closed", "open", "half-open"},
    },
    "pixtools_uploads": {"outcome": {*CODES, *PROBLEM_CODES, metrics.ACCEPTED, metrics.REPLAYED}},
    "pixtools_steps": {"outcome": {"succeeded", "failed", "outdated", "abandoned", "handed_back"}},
    "pixtools_webhook_attempts": {"outcome": {"delivered", "failed", "exhausted", "postponed", "outdated", "given_up"}},
    "pixtools_outbox_messages": {"outcome": {"sent", "failed"}},
    "pixtools_listeners": {"kind": {"job", "log"}},
    "pixtools_listeners_ended": {"reason": set(Ended)},
    "pixtools_fetch_seconds": {"source": set(KINDS.values())},
    "pixtools_fetch_bytes": {"source": set(KINDS.values())},
}


def test_what_one_job_leaves_behind_and_that_labels_are_closed(deployment: Deployment, photo: bytes) -> None:
    with deployment.client() as client:
        seen = total(deployment.url, "pixtools_uploads_total", outcome="accepted")
        refused = total(deployment.url, "pixtools_uploads_total", outcome="unsupported_image")
        job = client.run(photo, [{"op": "resize", "width": 32, "then": ["convert_webp"]}])
        client.process(b"no image", ["flip"])
        client.http.get("/no/such/path-at-all")
        client.http.request("BREW", "/jobs")
    assert job["status"] == "completed"
    await_total(deployment.url, seen + 1, "pixtools_uploads_total", outcome="accepted")
    await_total(deployment.url, refused + 1, "pixtools_uploads_total", outcome="unsupported_image")
    routes = set(httpx.get(f"{deployment.url}/openapi.json", timeout=10).json()["paths"])
    wanted = {"pixtools_open_jobs", "pixtools_outbox_lag_seconds", "pixtools_queue_age_seconds"}
    if deployment.mode == "cluster":
        wanted |= {"pixtools_queue_workers", "pixtools_queue_messages"}

    def complete() -> list[Metric]:
        found = list(scrape(deployment.url))  # what does not answer in time is left out, as on a busy machine
        return found if wanted <= {family.name for family in found} else []

    families = until(complete)
    for family in families:
        if not family.name.startswith("pixtools_"):
            continue
        closed = CLOSED[""] | CLOSED.get(family.name, {}) | {"route": {*routes, *PAGES, "none"}}
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert label == "le" or value in closed[label], (family.name, label, value)


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_a_job_in_one_process_is_counted_from_upload_to_end(deployment: Deployment) -> None:
    photo, url = make_photo(160, 120), deployment.url
    with deployment.client() as client:
        client.await_all()
        before = settled(url)
        job = client.run(photo, [{"op": "resize", "width": 32, "then": ["convert_webp"]}, "denoise"])
        broken = client.run(photo[: len(photo) // 2] + b"\xff\xd9", ["flip"])
    assert broken["status"] == "failed"
    webp = next(result for result in job["results"] if result["format"] == "webp")
    added = {
        ("pixtools_jobs_total", "status=completed", "fault=none"): 1,
        ("pixtools_jobs_total", "status=failed", "fault=input"): 1,
        ("pixtools_upload_bytes_total", "format=jpeg"): len(photo) + len(photo) // 2 + 2,
        ("pixtools_upload_pixels_total", "format=jpeg"): 2 * 160 * 120,
        ("pixtools_result_bytes_total", "format=webp"): webp["bytes"],
        ("pixtools_result_pixels_total", "format=webp"): webp["width"] * webp["height"],
        ("pixtools_job_seconds_count", "op=resize"): 1,
        ("pixtools_job_seconds_count", "op=denoise"): 1,
        ("pixtools_step_seconds_count", "op=convert_webp"): 1,
        ("pixtools_steps_total", "outcome=succeeded"): 2,
        ("pixtools_steps_total", "outcome=failed"): 1,
        ("pixtools_step_errors_total", "code=corrupt_image"): 1,
        ("pixtools_accept_seconds_count",): 2,
        ("pixtools_queue_wait_seconds_count", "queue=ml_inference_queue"): 1,
        ("pixtools_open_jobs",): 0,
    }
    for (name, *pairs), number in added.items():
        labels = dict(pair.split("=") for pair in pairs)
        await_total(url, summed(before, name, **labels) + number, name, **labels)
    assert total(url, "pixtools_model_load_seconds_count") >= 1
    assert total(url, "pixtools_model_load_seconds_sum") > 0.01


@pytest.fixture(autouse=True)
def _no_folder_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(slots.FOLDER, raising=False)


def worker_url(deployment: Deployment) -> str:
    return f"http://127.0.0.1:{deployment.environment['PIXTOOLS_METRICS_PORT']}"


def await_worker(deployment: Deployment) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            scrape(worker_url(deployment))
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the worker serves no metrics")


@pytest.mark.full
@pytest.mark.integration
def test_several_processes_of_uvicorn_count_together(cluster_servers: ClusterServers, tmp_path: Path) -> None:
    running = cluster(tmp_path, cluster_servers, [])
    running.commands = [["uvicorn", "app.main:app", "--workers", "2", "--port", str(running.port)]]
    running.environment[slots.FOLDER] = str(tmp_path / "metrics")
    running.start()
    try:
        for _ in range(60):  # connections of their own, so that both processes get some
            assert httpx.get(f"{running.url}/operations", timeout=10, verify=PLAIN).is_success
        await_total(running.url, 60, "pixtools_http_requests_total", route="/operations")
        for _ in range(10):
            assert total(running.url, "pixtools_http_requests_total", route="/operations") == 60
        workers = psutil.Process(running.processes[0].pid).children(recursive=True)
        held = [p for p in workers if any("slot-" in file.path for file in p.open_files())]
        assert len(held) == 2
        held[0].send_signal(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while total(running.url, "pixtools_http_requests_total", route="/operations") < 60:
            assert time.monotonic() < deadline
        assert httpx.get(f"{running.url}/operations", timeout=10, verify=PLAIN).is_success
        await_total(running.url, 61, "pixtools_http_requests_total", route="/operations")
    finally:
        running.stop()


def test_a_port_that_is_taken_costs_only_the_metrics(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serve_metrics("127.0.0.1", taken.getsockname()[1])
    assert "metrics_not_served" in caplog.text


@pytest.mark.full
@pytest.mark.integration
def test_a_port_that_is_taken_costs_a_worker_its_metrics_and_not_its_work(
    cluster_servers: ClusterServers, tmp_path: Path, photo: bytes
) -> None:
    running = cluster(tmp_path, cluster_servers, [])
    running.commands = [["app", "api"], ["app", "worker", "--concurrency", "1"]]
    running.environment["PIXTOOLS_METRICS_PORT"] = str(running.port)
    running.of_command["api"] = {"PIXTOOLS_METRICS_PORT": ""}  # which would take it for itself
    running.start()
    try:
        with running.client() as client:
            assert client.run(photo, ["flip"])["status"] == "completed"
        assert "metrics_not_served" in running.log.read_text()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def alone(
    cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, TcpProxy]]:
    """An API that starts nothing else, a relay, and the way to their database."""
    running = cluster(tmp_path_factory.mktemp("alone"), cluster_servers, [])
    running.commands = [["tests.support.api_alone", "app", "api"], ["app", "relay"]]
    running.environment["PIXTOOLS_METRICS_PORT"] = str(free_port())
    running.of_command["api"] = {"PIXTOOLS_METRICS_PORT": ""}  # which would take it for itself
    address = urlsplit(running.environment["PIXTOOLS_DATABASE_URL"])
    with TcpProxy(str(address.hostname), int(address.port or 0)) as proxy:
        changed = running.environment["PIXTOOLS_DATABASE_URL"].replace(f":{address.port}", f":{proxy.port}", 1)
        running.environment["PIXTOOLS_DATABASE_URL"] = changed
        running.start()
        yield running, proxy
        running.stop()


@pytest.mark.integration
def test_the_relay_serves_its_metrics(alone: tuple[Deployment, TcpProxy], photo: bytes) -> None:
    running, _ = alone
    await_worker(running)
    with running.client() as client:
        client.accepted(photo, ["flip"])
    await_total(worker_url(running), 1, "pixtools_outbox_messages_total", outcome="sent")


@pytest.mark.integration
def test_uploads_are_counted_by_our_own_codes_while_the_database_is_away(
    alone: tuple[Deployment, TcpProxy], photo: bytes
) -> None:
    running, proxy = alone
    try:
        with running.client() as client:
            assert client.http.get("/jobs").is_success  # then it knows for a while that there are no keys
            proxy.cut()
            assert client.process(photo, ["flip"]).status_code == 503
        outcomes = {
            sample.labels["outcome"]: sample.value
            for family in scrape(running.url)
            for sample in family.samples
            if sample.name == "pixtools_uploads_total"
        }
        assert outcomes["database_unavailable"] == 1
        assert set(outcomes) <= CLOSED["pixtools_uploads"]["outcome"]
    finally:
        proxy.heal()


def test_the_format_follows_the_header(deployment: Deployment) -> None:
    plain = httpx.get(f"{deployment.url}/metrics", timeout=10)
    assert plain.headers["content-type"].startswith("text/plain")
    asked = {"Accept": "application/openmetrics-text; version=1.0.0"}
    open_metrics = httpx.get(f"{deployment.url}/metrics", headers=asked, timeout=10)
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_every_metric_is_documented_and_nothing_else() -> None:
    documented = re.findall(r"^\| `(pixtools_\w+)` \|", (ROOT / "docs" / "observability.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(all_names())


def test_faults_of_ours_are_codes_of_errors() -> None:
    assert metrics.SERVICE_FAULTS < CODES
    of_others = {kind for base in (errors.SourceFailed, errors.OutputFailed) for kind in classes_below(base)}
    retried = {kind.code for kind in set(classes_below(errors.StepFailed)) - of_others if kind.retryable}
    assert retried < metrics.SERVICE_FAULTS, "what another attempt could repair is not the input's fault"


def test_every_metric_is_named_as_it_should_be() -> None:
    families: list[Any] = [*metrics.REGISTRY.collect()]
    names = all_names()
    assert len(names) == len(set(names))
    assert all(name.startswith("pixtools_") for name in names)
    assert all(family.documentation for family in families)
    units = ("_seconds", "_bytes")
    histograms = [family.name for family in families if family.type == "histogram"]
    assert all(name.endswith(units) for name in histograms)
