"""Processes that have to stop, jobs that are cancelled, and a server that is full."""

import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import pixel_processes
from tests.support.waiting import until

pytestmark = pytest.mark.integration

PIXELS = ("default_queue", "ml_inference_queue")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One process that has room for one job."""
    running = embedded(tmp_path_factory.mktemp("single"), PIXTOOLS_MAX_OPEN_JOBS="1")
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def pixels(cluster_servers: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A cluster that sends no webhooks, whose workers have little time to end."""
    running = cluster(tmp_path_factory.mktemp("pixels"), cluster_servers, PIXELS, PIXTOOLS_DRAIN_SECONDS="0.5")
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_an_orderly_stop_of_the_embedded_server_costs_no_attempt(single: Deployment) -> None:
    with single.client() as api:
        job_id = api.accepted(make_photo(1900, 1900), ["denoise"])["id"]
        until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
    single.stop()
    single.start()
    with single.client() as api:
        step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
        assert step["attempts"] == 1
        api.http.post(f"/jobs/{job_id}/cancel")


def test_a_full_server_answers_before_it_reads_the_upload(single: Deployment) -> None:
    with single.client() as api:
        photo = make_photo(1900, 1900)
        time.sleep(1.1)  # that a count is good for
        slow = api.accepted(photo, ["denoise"])["id"]
        time.sleep(1.1)
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = httpx.post(f"{single.url}/process", headers=headers, content=b"--x\r\n".ljust(2_000_000))
        assert answer.status_code == 503
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_much_work", "30")
        assert api.http.post(f"/jobs/{slow}/cancel").status_code == 200
        time.sleep(1.1)
        assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"


def test_a_worker_that_is_stopped_hands_its_task_to_the_next(pixels: Deployment) -> None:
    with pixels.client() as api:
        job_id = api.accepted(make_photo(1900, 1900), ["denoise"])["id"]
        until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
        ml_worker = pixels.processes[2]
        ml_worker.send_signal(signal.SIGTERM)
        assert ml_worker.wait(20) == 0
        step = api.job(job_id)["steps"][0]
        assert (step["status"], step["attempts"]) == ("pending", 0)
        pixels.processes[2] = pixels.restart(2)
        step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
        assert step["attempts"] == 1
        api.http.post(f"/jobs/{job_id}/cancel")


def test_a_cancel_ends_the_pixel_process_of_a_cluster(pixels: Deployment) -> None:
    with pixels.client() as api:
        job_id = api.accepted(make_photo(1500, 1500), ["denoise"])["id"]
        until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
        before = pixel_processes(pixels)
        api.http.post(f"/jobs/{job_id}/cancel")
        until(lambda: before - pixel_processes(pixels))
