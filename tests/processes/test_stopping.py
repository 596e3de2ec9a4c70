"""Processes that have to stop, jobs that are cancelled, and a server that is full."""

import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import make_photo
from tests.support.deployment import Deployment, cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import LONG, held, pixel_processes
from tests.support.waiting import until

pytestmark = pytest.mark.integration


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
    running = cluster(
        tmp_path_factory.mktemp("pixels"), cluster_servers, ["default_queue"], PIXTOOLS_DRAIN_SECONDS="0.5"
    )
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_an_orderly_stop_of_the_embedded_server_costs_no_attempt(single: Deployment) -> None:
    with single.client() as api:
        job_id = api.accepted(make_photo(1000, 750), [LONG])["id"]
        with held(single, api, job_id):
            single.stop()
    single.start()
    with single.client() as api:
        step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
        assert step["attempts"] == 1
        api.http.post(f"/jobs/{job_id}/cancel")


def test_a_full_server_answers_before_it_reads_the_upload(single: Deployment) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}

    def refused() -> httpx.Response | None:
        """Once the server has counted its jobs again; until then it reads the upload, which is none."""
        answer = httpx.post(f"{single.url}/process", headers=headers, content=b"--x\r\n".ljust(2_000_000))
        return answer if answer.status_code == 503 else None

    with single.client() as api:
        accepted = until(lambda: (a := api.process(make_photo(1000, 750), [LONG])).status_code == 202 and a)
        job_id = accepted.json()["id"]
        with held(single, api, job_id):
            answer = until(refused)
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_much_work", "30")
            assert api.http.post(f"/jobs/{job_id}/cancel").status_code == 200
        small = until(lambda: (a := api.process(make_photo(64, 64), ["convert_png"])).status_code == 202 and a)
        assert api.ended(small.json()["id"])["status"] == "completed"


def test_a_worker_that_is_stopped_hands_its_task_to_the_next(pixels: Deployment) -> None:
    with pixels.client() as api:
        job_id = api.accepted(make_photo(1000, 750), [LONG])["id"]
        worker = pixels.processes[1]
        with held(pixels, api, job_id):
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        step = api.job(job_id)["steps"][0]
        assert (step["status"], step["attempts"]) == ("pending", 0)
        pixels.processes[1] = pixels.restart(1)
        step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
        assert step["attempts"] == 1
        api.http.post(f"/jobs/{job_id}/cancel")


def test_a_cancel_ends_the_pixel_process_of_a_cluster(pixels: Deployment) -> None:
    with pixels.client() as api:
        job_id = api.accepted(make_photo(1000, 750), [LONG])["id"]
        with held(pixels, api, job_id):
            before = pixel_processes(pixels)
            api.http.post(f"/jobs/{job_id}/cancel")
            until(lambda: before - pixel_processes(pixels))
