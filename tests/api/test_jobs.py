"""Jobs from outside, the same in both modes: listed, cancelled, repeated, deleted."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import in_one_mode, make_photo
from tests.support.deployment import ApiClient, Deployment
from tests.support.processes import pixel_processes, resume, suspend
from tests.support.results import TREE
from tests.support.waiting import until

pytestmark = pytest.mark.integration


def test_listing_pages_through_every_job_once(api: ApiClient, photo: bytes) -> None:
    mine = [api.accepted(photo, ["convert_png"])["id"] for _ in range(5)]
    seen: list[str] = []
    parameters: dict[str, Any] = {"limit": 2}
    while len(seen) < 6:
        response = api.http.get("/jobs", params=parameters)
        page = response.json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        assert 'rel="next"' in response.headers["link"]
        parameters["cursor"] = page["next_cursor"]
    assert seen[:5] == mine[::-1]
    assert len(set(seen)) == len(seen)


@in_one_mode()
def test_listing_filters_by_status_and_refuses_foreign_cursors(api: ApiClient, photo: bytes) -> None:
    for _ in range(2):
        api.run(photo, ["convert_png"])
    page = api.http.get("/jobs", params={"status": "completed", "limit": 1}).json()
    assert {job["status"] for job in page["data"]} == {"completed"}
    for cursor in ("nonsense!", "AAAA", page["next_cursor"]):
        response = api.http.get("/jobs", params={"cursor": cursor})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
    assert api.http.get("/jobs", params={"status": "odd"}).status_code == 422
    assert api.http.get("/jobs", params={"limit": 0}).status_code == 422
    too_many = api.http.get("/jobs", params={"limit": 5000})
    assert too_many.status_code == 422
    assert too_many.json()["errors"] == [
        {
            "detail": "limit must be less than or equal to 100.",
            "pointer": "#/query/limit",
            "limit": 100,
            "value": "5000",
        }
    ]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/archive")]
)
@pytest.mark.parametrize("job_id", ["0199aaaa-0000-7000-8000-000000000000", "no-uuid"])
def test_a_job_that_is_not_there(api: ApiClient, method: str, path: str, job_id: str) -> None:
    response = api.http.request(method, f"/jobs/{job_id}{path}")
    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


@in_one_mode()
def test_cancel_ends_a_job_and_its_pixel_process(deployment: Deployment, api: ApiClient, photo: bytes) -> None:
    api.await_all()  # a frozen process may not be that of another job
    seen: set[int] = set()

    def killed() -> set[int]:
        processes = pixel_processes(deployment)
        suspend(processes)
        seen.update(processes)
        return seen - pixel_processes(deployment)

    def cancelled_at_work() -> dict[str, Any] | None:
        """None: the work was done by a process that was started for it, before that was frozen too."""
        killed()
        job_id = api.accepted(photo, ["convert_webp"])["id"]
        until(lambda: api.job(job_id)["status"] != "pending")
        answer = api.http.post(f"/jobs/{job_id}/cancel")
        with suppress(AssertionError):
            until(killed, 5)
        return answer.json() if answer.is_success and killed() else None

    try:
        job = until(cancelled_at_work)
        assert job["status"] == "cancelled"
        assert job["finished_at"]
        assert [step["status"] for step in job["steps"]] == ["cancelled"]
        assert api.http.post(f"/jobs/{job['id']}/cancel").status_code == 200
        assert api.job(job["id"])["status"] == "cancelled"
    finally:
        resume(pixel_processes(deployment))

    retried = api.http.post(f"/jobs/{job['id']}/retry")
    assert retried.status_code == 202
    assert api.ended(job["id"])["status"] == "completed"


@in_one_mode()
def test_an_ended_job_cannot_be_cancelled_and_has_nothing_to_retry(api: ApiClient, photo: bytes) -> None:
    job_id = api.run(photo, ["convert_png"])["id"]
    for action, code in (("cancel", "job_already_finished"), ("retry", "nothing_to_retry")):
        response = api.http.post(f"/jobs/{job_id}/{action}")
        assert (response.status_code, response.json()["code"]) == (409, code)


def test_retry_repeats_only_what_failed(api: ApiClient) -> None:
    image = make_photo(1000, 100)
    too_large = {"op": "resize", "width": 4000, "height": 4000, "fit": "fill", "enlarge": True}
    job = api.run(image, ["convert_webp", too_large])
    started = job["steps"][0]["started_at"]
    response = api.http.post(f"/jobs/{job['id']}/retry")
    assert response.status_code == 202
    assert response.json()["status"] == "pending"
    job = api.ended(job["id"])
    assert job["status"] == "completed_with_errors"
    assert job["steps"][0]["started_at"] == started
    assert job["steps"][1]["status"] == "failed"


def test_delete_erases_a_job_and_its_results(api: ApiClient, photo: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    job = api.run(photo, TREE, headers=headers)
    assert api.http.delete(f"/jobs/{job['id']}").status_code == 204
    assert api.http.get(f"/jobs/{job['id']}").status_code == 404
    assert [api.download(result).status_code for result in job["results"]] == [404, 404, 404]
    assert api.accepted(photo, TREE, headers=headers)["id"] != job["id"]


@in_one_mode()
def test_a_running_job_can_be_deleted(api: ApiClient) -> None:
    job_id = api.accepted(make_photo(2000, 1900), [{"op": "convert_avif", "effort": 4}])["id"]
    assert api.http.delete(f"/jobs/{job_id}").status_code == 204
    assert api.http.get(f"/jobs/{job_id}").status_code == 404
