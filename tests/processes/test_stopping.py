"""Processes that are told to stop, jobs that are cancelled, and a server that is full."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import make_photo
from tests.support.deployment import cluster, embedded
from tests.support.fixtures import ClusterServers
from tests.support.processes import pixel_processes
from tests.support.waiting import until


@pytest.mark.integration
def test_a_full_server_answers_before_it_reads_the_upload(tmp_path: Path) -> None:
    deployment = embedded(tmp_path, PIXTOOLS_MAX_OPEN_JOBS="1")
    try:
        deployment.start()
        with deployment.client() as api:
            photo = make_photo(900, 900)
            slow = api.accepted(photo, ["denoise"])["id"]
            time.sleep(1.1)  # that a count is good for
            headers = {"content-type": "multipart/form-data; boundary=x"}
            answer = httpx.post(f"{deployment.url}/process", headers=headers, content=b"--x\r\n".ljust(2_000_000))
            assert answer.status_code == 503
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_much_work", "30")
            assert api.http.post(f"/jobs/{slow}/cancel").status_code == 200
            time.sleep(1.1)
            assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"
    finally:
        deployment.kill()


@pytest.mark.integration
def test_an_orderly_stop_of_the_embedded_server_costs_no_attempt(tmp_path: Path) -> None:
    deployment = embedded(tmp_path)
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1200, 1200), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
        deployment.stop()
        deployment.start()
        with deployment.client() as api:
            step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
            assert step["attempts"] == 1
            api.http.post(f"/jobs/{job_id}/cancel")
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_worker_that_is_stopped_hands_its_task_to_the_next(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers, PIXTOOLS_DRAIN_SECONDS="0.5")
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1200, 1200), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            ml_worker = deployment.processes[2]
            ml_worker.send_signal(signal.SIGTERM)
            assert ml_worker.wait(20) == 0
            step = api.job(job_id)["steps"][0]
            assert (step["status"], step["attempts"]) == ("pending", 0)
            deployment.processes[2] = deployment.restart(2)
            step = until(lambda: (s := api.job(job_id)["steps"][0])["status"] == "running" and s)
            assert step["attempts"] == 1
            api.http.post(f"/jobs/{job_id}/cancel")
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_relay_of_its_own_does_the_work_of_the_apis(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers)
    deployment.commands.append(["app", "relay"])
    try:
        deployment.start()
        with deployment.client() as api:
            assert api.run(make_photo(64, 64), ["convert_png"])["status"] == "completed"
        deployment.processes[-1].send_signal(signal.SIGTERM)
        assert deployment.processes[-1].wait(10) == 0
    finally:
        deployment.kill()


@pytest.mark.integration
def test_a_cancel_ends_the_pixel_process_of_a_cluster(tmp_path: Path, cluster_servers: ClusterServers) -> None:
    deployment = cluster(tmp_path, cluster_servers)
    try:
        deployment.start()
        with deployment.client() as api:
            job_id = api.accepted(make_photo(1500, 1500), ["denoise"])["id"]
            until(lambda: api.job(job_id)["steps"][0]["progress"] > 0)
            before = pixel_processes(deployment)
            api.http.post(f"/jobs/{job_id}/cancel")
            until(lambda: before - pixel_processes(deployment), 10)
    finally:
        deployment.kill()
