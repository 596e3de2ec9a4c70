"""A single process that has to stop, and one that is full until a job is cancelled."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import make_photo
from tests.support.deployment import Deployment, embedded
from tests.support.processes import LONG, held
from tests.support.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One process that has room for one job, and one thread for large work."""
    settings = {"PIXTOOLS_MAX_OPEN_JOBS": "1", "PIXTOOLS_WORKER_CONCURRENCY": "1"}
    running = embedded(tmp_path_factory.mktemp("single"), **settings)
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
        answer = httpx.post(f"{single.url}/process", headers=headers, content=b"--x\r\n".ljust(2_000_000), timeout=30)
        return answer if answer.status_code == 503 else None

    with single.client() as api:
        accepted = until(lambda: (a := api.process(make_photo(1000, 750), [LONG])).status_code == 202 and a)
        job_id = accepted.json()["id"]
        with held(single, api, job_id):
            answer = until(refused)
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_much_work", "30")
            assert api.http.post(f"/jobs/{job_id}/cancel").status_code == 200
            # the next one needs the thread, whose pixel process would not end by itself
            large = [{"op": "convert_avif", "effort": 8}]
            accepted = until(lambda: (a := api.process(make_photo(120, 90), large)).status_code == 202 and a)
            assert api.ended(accepted.json()["id"])["status"] == "completed"
