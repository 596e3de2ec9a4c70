"""One request followed through five processes: in a trace and in their logs."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_photo
from tests.support.collector import CollectedSpan, Collector
from tests.support.deployment import ApiClient, Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import logged
from tests.support.receiver import Receiver, receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
HEADERS = {"X-Request-ID": "followed-1", "traceparent": f"00-{TRACE}-{PARENT}-01"}
TREE: list[Any] = ["convert_png", {"op": "denoise", "then": [{"op": "resize", "width": 16, "then": ["convert_webp"]}]}]
SECRET = "s3cr3t-V4lue"
PATIENCE = 20.0  # seconds until spans and lines that are on their way count as missing
ID = attrgetter("span_id")
PROCESSES = ("api", "relay", "worker", "ml", "sender")


@dataclass
class Watched(Deployment):
    """Each process has a log of its own."""

    def _spawn(self, command: list[str]) -> Any:
        self.number = getattr(self, "number", -1) + 1
        return super()._spawn(command)

    @property
    def log(self) -> Path:
        return self.folder / f"log-{getattr(self, 'number', 0)}"

    def lines(self) -> dict[str, list[dict[str, Any]]]:
        """What each process has logged."""
        return {name: logged(self.folder / f"log-{number}") for number, name in enumerate(PROCESSES)}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def watched(
    cluster_servers: ClusterServers, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """API without relay, relay, worker, ML worker and sender of webhooks."""
    plain = cluster(
        tmp_path_factory.mktemp("watched"),
        cluster_servers,
        ["default_queue", "ml_inference_queue", "webhook_queue"],
        PIXTOOLS_OTLP_ENDPOINT=f"{collector.endpoint}/",
        PIXTOOLS_LOG_LEVEL="DEBUG",  # at INFO a task says nothing while all is well
    )
    api, *workers = plain.commands
    commands = [["tests.support.api_alone", *api], ["app", "relay"], *workers]
    running = Watched(plain.mode, plain.folder, plain.environment, commands)
    with running.running():
        yield running


def followed(client: ApiClient, receiver: Receiver) -> dict[str, Any]:
    url = f"{receiver.url}?token={SECRET}"
    job = client.run(make_photo(64, 48), TREE, headers=HEADERS, webhook_url=url)
    assert job["status"] == "completed"
    receiver.await_requests(1)
    return job


def wait_for(seen: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def traced(collector: Collector) -> list[CollectedSpan]:
    """The spans of the job that is followed; those who ask how it is are no part of it."""
    return [span for span in collector.spans if span.trace_id == TRACE and "/jobs" not in span.name]


@pytest.mark.integration
def test_one_trace_and_one_request_id_go_through_five_processes(watched: Watched, collector: Collector) -> None:
    with receiving() as receiver, watched.client() as client:
        job = followed(client, receiver)
        (shown,) = receiver.requests

    def complete() -> bool:
        """Each process sends its spans when it comes to it, so that a parent may come after its children."""
        names = {"webhook", "pixtools.deliver_webhook", "pixtools.denoise", "pixtools.convert_webp"}
        came = traced(collector)
        is_whole = {span.parent_id for span in came} <= {PARENT, *map(ID, came)}
        return is_whole and names <= {span.name for span in came} and len({span.instance for span in came}) >= 5

    wait_for(complete)
    mine = traced(collector)
    by_id = {span.span_id: span for span in mine}

    (root,) = [span for span in mine if span.parent_id == PARENT]
    assert root.name == "POST /process", "one tree, nothing besides it"
    assert not any(span.failed for span in mine)
    assert len({span.instance for span in mine}) >= 5, "API, relay, a child of each worker, the sender"
    assert {span.service for span in mine} == {"pixtools-api", "pixtools-relay", "pixtools-worker"}

    def path(span: CollectedSpan) -> list[str]:
        above = by_id.get(span.parent_id)
        return [*(path(above) if above else []), span.name]

    (resize,) = [span for span in mine if span.name == "pixtools.convert_webp"]
    assert path(resize) == [
        "POST /process",
        "send pixtools.start_job",
        "pixtools.start_job",
        "pixtools.denoise",
        "pixtools.convert_webp",
    ]
    (denoise,) = [span for span in mine if span.name == "pixtools.denoise"]
    assert denoise.attributes["messaging.destination.name"] == "ml_inference_queue"
    assert {span.name for span in mine if span.parent_id == denoise.span_id} >= {"fetch", "render", "store"}
    (webhook,) = [span for span in mine if span.name == "pixtools.deliver_webhook"]
    assert path(webhook)[:2] == ["POST /process", "send pixtools.start_job"]
    (request,) = [span for span in mine if span.name == "webhook"]
    assert shown.headers["traceparent"] == f"00-{TRACE}-{request.span_id}-01", "its receiver can go on"

    ids = {"request_id": "followed-1", "trace_id": TRACE, "job_id": job["id"]}
    for name, lines in watched.lines().items():
        shown = [line for line in lines if ids.items() <= line.items()]
        assert shown, f"{name} says nothing of the request"
    events = {(name, line["event"], line.get("task")) for name, lines in watched.lines().items() for line in lines}
    assert {
        ("api", "request", None),
        ("relay", "message_sent", None),
        ("worker", "task_succeeded", "0"),
        ("ml", "task_succeeded", "1"),
        ("worker", "task_succeeded", "1.0.0"),
        ("sender", "webhook_attempt", None),
    } <= events
    assert "job_ended" in {event for _, event, _ in events}


@pytest.mark.integration
def test_every_line_about_a_job_says_which_one_and_of_which_request(watched: Watched, photo: bytes) -> None:
    with watched.client() as client:
        job = client.run(photo, ["flip"], headers={"X-Request-ID": "followed-2"})
        client.http.get(f"/jobs/{job['id']}", headers={"X-Request-ID": "asked-later"})

    def about_it() -> list[dict[str, Any]]:
        """Celery's own lines at DEBUG know of no jobs."""
        ours = [line for lines in watched.lines().values() for line in lines if line["logger"].startswith("app.")]
        return [line for line in ours if job["id"] in json.dumps(line)]

    wait_for(lambda: {line.get("request_id") for line in about_it()} >= {"followed-2", "asked-later"})
    lines = about_it()
    assert [line for line in lines if line.get("job_id") != job["id"] or "request_id" not in line] == []


def secrets_of(deployment: Deployment) -> list[str]:
    keys = ("PIXTOOLS_S3_SECRET_KEY", "PIXTOOLS_SECRET_KEY")
    urls = [deployment.environment.get(name, "") for name in ("PIXTOOLS_DATABASE_URL", "PIXTOOLS_BROKER_URL")]
    passwords = [url.split("@", maxsplit=1)[0].rsplit(":", 1)[-1] for url in urls if "@" in url]
    return [SECRET, *passwords, *(deployment.environment[key] for key in keys if key in deployment.environment)]


@pytest.mark.integration
def test_no_secret_is_in_any_log(watched: Watched, photo: bytes) -> None:
    with receiving() as receiver, watched.client() as client:
        job = followed(client, receiver)
        client.download(job["results"][0])
        client.process(photo, ["flip"], webhook_url=f"http://127.0.0.1:1/hook?token={SECRET}")
        client.http.get("/jobs", params={"cursor": SECRET}, headers={"Authorization": f"Bearer {SECRET}"})
        time.sleep(1)
    text = "".join(path.read_text() for path in watched.folder.glob("log-*"))
    assert "followed-1" in text
    assert len(secrets_of(watched)) == 5
    for secret in (*secrets_of(watched), "X-Amz-Signature", "signature="):
        assert secret not in text


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_no_signature_of_a_link_is_in_the_log(deployment: Deployment, photo: bytes) -> None:
    with deployment.client() as client:
        (result,) = client.run(photo, ["flip"])["results"]
        link, signature = result["url"], result["url"].rsplit("signature=", 1)[1]
        assert client.http.get(link).is_success
        refused = client.http.get(link.replace("signature=", "signature=x"), headers={"X-Request-ID": "refused-link"})
        assert refused.status_code == 403
    wait_for(lambda: "refused-link" in deployment.log.read_text())
    assert signature not in deployment.log.read_text()


@pytest.mark.full  # nor at DEBUG; that of other secrets is not in the log of either mode is asked in tests/access
def test_no_secret_is_in_the_log_of_the_single_process(tmp_path: Path, photo: bytes) -> None:
    running = embedded(tmp_path, PIXTOOLS_LOG_LEVEL="DEBUG", PIXTOOLS_SECRET_KEY=f"key-{SECRET}")
    running.start()
    try:
        with receiving() as receiver, running.client() as client:
            job = client.run(photo, ["flip"], headers=HEADERS, webhook_url=f"{receiver.url}?token={SECRET}")
            link = job["results"][0]["url"]
            assert client.http.get(link).is_success
            assert client.http.get(link.replace("signature=", "signature=x")).status_code == 403
            receiver.await_requests(1)
    finally:
        running.stop()
    text = running.log.read_text()
    assert "followed-1" in text
    assert SECRET not in text
    assert link.rsplit("signature=", 1)[1] not in text
