"""The single process: a product that survives being killed."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.preloaded import run
from tests.support.processes import frozen, pixel_processes
from tests.support.sampling import WHOLE
from tests.support.waiting import until

pytestmark = pytest.mark.integration

TREE = [{"op": "convert_webp", "effort": 6}, {"op": "resize", "width": 300, "then": ["convert_avif", "convert_png"]}]
RESULTS = {"convert_webp", "resize.convert_avif", "resize.convert_png"}
JOBS = 20 if WHOLE else 4


def check_results(api: ApiClient, job: dict[str, Any]) -> None:
    """Every result is there once and whole."""
    assert sorted(result["name"] for result in job["results"]) == sorted(RESULTS)
    for result in job["results"]:
        assert hashlib.sha256(api.download(result).content).hexdigest() == result["sha256"]


def test_killed_in_the_middle_of_its_jobs_it_completes_them_after_a_restart(tmp_path: Path) -> None:
    deployment = embedded(tmp_path, PIXTOOLS_WORKER_CONCURRENCY="1")
    spool = tmp_path / "data" / "spool"
    photos = [make_photo(320, 240, seed=seed) for seed in range(JOBS)]
    deployment.start()
    try:
        with deployment.client() as api:
            ids = [api.run(photos[0], TREE)["id"]]
            with frozen(pixel_processes(deployment)):  # so that no work ends any more
                ids += [api.accepted(photo, TREE)["id"] for photo in photos[1:]]
                until(lambda: any(step["status"] == "running" for job_id in ids for step in api.job(job_id)["steps"]))
                left = until(lambda: set(spool.glob("task-*")))
                deployment.kill()
        deployment.start()
        assert not left & set(spool.glob("task-*")), "copies of uploads were left behind"
        with deployment.client() as api:
            jobs = [api.ended(job_id) for job_id in ids]
            assert [job["status"] for job in jobs] == ["completed"] * JOBS
            for job in jobs:
                check_results(api, job)
            assert api.total_jobs() == JOBS
            # the kill hit work under way: some step was started twice
            assert any(step["attempts"] > 1 for job in jobs for step in job["steps"])
        objects = [path for path in (tmp_path / "data" / "objects").rglob("*") if path.is_file()]
        results = [path for path in objects if path.parent.name != "intermediates"]
        assert len(results) == JOBS * (1 + len(RESULTS)), "an attempt that was killed left an object of its own behind"
        assert len(objects) - len(results) <= JOBS
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = embedded(tmp_path_factory.mktemp("running"))
    with deployment.running():
        yield deployment


def test_a_request_head_without_end_is_refused(running: Deployment) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n")
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"X-A: " + b"a" * 10_000 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")


def test_a_data_folder_serves_one_process_only(running: Deployment) -> None:
    ended = run(["app", "serve"], embedded(running.folder).variables())
    assert ended.returncode != 0
    [line] = ended.stderr.splitlines()
    assert "is in use by another PixTools process" in line


def test_the_key_of_download_links_stays_over_restarts_and_is_private(running: Deployment) -> None:
    with running.client() as api:
        result = api.run(make_photo(), ["convert_png"])["results"][0]
    running.stop()
    running.start()
    with running.client() as api:
        assert api.download(result).status_code == 200
    assert (running.folder / "data" / "secret.key").stat().st_mode & 0o077 == 0
