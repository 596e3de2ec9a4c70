"""The line of RabbitMQ that is shipped: a job over every queue, and celery-exporter. `make infra-test` unpacks it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import amqp
import httpx
import pytest

from app.operations import Queue
from tests.support.deployment import Deployment, cluster, free_port
from tests.support.fixtures import ClusterServers
from tests.support.receiver import receiving
from tests.support.servers import HOST, RabbitMQ

from .conftest import ROOT
from .manifests import K8S

FOLDER = ROOT / ".rabbitmq"
PATIENCE = 60.0  # seconds

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif("INFRA_SIMULATOR" not in os.environ, reason="`make infra-test` runs on the shipped RabbitMQ"),
    pytest.mark.skipif(not (FOLDER / "done").exists(), reason="scripts/install-rabbitmq .rabbitmq has not run"),
]


class Shipped(RabbitMQ):
    """Of the packages that were unpacked."""

    start_timeout = 180.0  # its first start sets all features of four releases

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._scripts = FOLDER / "sbin"

    def _prepare(self) -> None:
        super()._prepare()
        with (self.home / "rabbitmq.conf").open("a") as file:
            file.write("deprecated_features.permit.transient_nonexcl_queues = false\n")

    def _command(self) -> Sequence[str | Path]:
        return [self._scripts / "rabbitmq-server"]


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    with Shipped(tmp_path_factory.mktemp("shipped") / "rabbitmq") as running:
        yield running


@pytest.fixture(scope="module")
def deployment(
    rabbitmq: Shipped, cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The API and a worker for each queue."""
    servers = replace(cluster_servers, rabbitmq=rabbitmq)
    running = cluster(tmp_path_factory.mktemp("line"), servers)
    workers = [queue for queue in Queue if queue != Queue.SMALL]
    running.commands = [["app", "api"], *(["app", "worker", "--queue", queue.value] for queue in workers)]
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_it_is_the_line_of_the_images(rabbitmq: Shipped) -> None:
    images = set(re.findall(r"image: rabbitmq:([\d.]+)-", (K8S / "rabbitmq" / "statefulset.yaml").read_text()))
    images |= set(re.findall(r"image: rabbitmq:([\d.]+)-", (ROOT / "docker-compose.yaml").read_text()))
    (line,) = images
    assert rabbitmq.ctl("version").strip().startswith(f"{line}.")


def test_it_refuses_queues_that_neither_last_nor_are_exclusive(rabbitmq: Shipped) -> None:
    """What released exporters of Celery, and Celery before 5.7, declare."""
    address = {"host": f"{HOST}:{rabbitmq.port}", "userid": rabbitmq.USER, "password": rabbitmq.password}
    with amqp.Connection(**address) as connection:
        channel = connection.channel()
        channel.queue_declare("exclusive", durable=False, exclusive=True)
        with pytest.raises(amqp.AMQPError):
            channel.queue_declare("transient", durable=False, exclusive=False, auto_delete=False)


def test_a_job_goes_through_every_queue(deployment: Deployment, photo: bytes) -> None:
    with receiving() as receiver, deployment.client() as client:
        tree = ["convert_webp", {"op": "resize", "width": 64, "then": ["denoise"]}]
        job = client.run(photo, tree, webhook_url=receiver.url)
        assert job["status"] == "completed", job
        assert {step["queue"] for step in job["steps"]} == {Queue.DEFAULT, Queue.ML}
        receiver.await_requests(1, PATIENCE)


def metrics(port: int) -> dict[str, float]:
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10, trust_env=False).text
    except httpx.HTTPError:
        return {}
    return {name: float(value) for name, value in re.findall(r"^(\S+\{.*\}) (\S+)$", text, re.MULTILINE)}


def test_the_exporter_sees_workers_come_and_go(deployment: Deployment) -> None:
    port = free_port()
    variables = {**deployment.variables(), "PIXTOOLS_METRICS_PORT": str(port), "PIXTOOLS_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "app", "celery-exporter"]
    with ExitStack() as ends:
        exporter = subprocess.Popen(command, env=variables, cwd=ROOT)
        ends.callback(exporter.wait, 20)
        ends.callback(exporter.kill)
        deadline = time.monotonic() + PATIENCE

        def up() -> list[float]:
            return sorted(value for name, value in metrics(port).items() if name.startswith("celery_worker_up"))

        workers = len(Queue)  # that of small work is the spare process
        while up() != [1.0] * workers:
            assert time.monotonic() < deadline, metrics(port)
            time.sleep(0.3)
        seen = metrics(port)
        assert {f'celery_queue_length{{queue_name="{queue}"}}' for queue in Queue} <= set(seen)
        assert sum(name.startswith("celery_worker_tasks_active") for name in seen) == workers
        worker = deployment.processes[-1]
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(PATIENCE)
        while up() != [0.0] + [1.0] * (workers - 1):
            assert time.monotonic() < deadline, metrics(port)
            time.sleep(0.3)
