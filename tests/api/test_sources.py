"""Inputs that are fetched, over HTTP in both modes."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.database import Database
from app.tenancy import DEFAULT_TENANT
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.receiver import answer, by_path, hang, receiving
from tests.support.tenants import new_key

TREE = [{"op": "resize", "width": 64, "then": ["convert_webp"]}, "flip"]


def post(api: ApiClient, *, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    return api.http.post("/process", json={"operations": TREE, **members}, headers=headers)


def taken(api: ApiClient, **members: Any) -> dict[str, Any]:
    response = post(api, **members)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def test_a_url_gives_what_its_upload_gives(api: ApiClient, photo: bytes) -> None:
    with receiving(answer(200, photo, etag='"1"')) as site:
        source = {"url": f"{site.origin}/photos/photo.jpg?sig=s3cret", "headers": {"Authorization": "Bearer s3cret"}}
        job = taken(api, input=source)
        assert job["input"] == {
            **dict.fromkeys(("format", "width", "height", "bytes", "sha256")),
            "filename": "photo.jpg",
            "source": {"url": f"{site.origin}/photos/photo.jpg"},
        }
        assert [step["id"] for step in job["steps"]] == ["input", "0", "0.0", "1"]
        ended = api.ended(job["id"])
        assert site.requests[0].headers["authorization"] == "Bearer s3cret"
    form = api.run(photo, TREE)
    assert ended["status"] == "completed"
    assert {each["name"]: each["sha256"] for each in ended["results"]} == {
        each["name"]: each["sha256"] for each in form["results"]
    }
    assert {**ended["input"], "source": None} == form["input"]
    fetch = ended["steps"][0]
    assert (fetch["op"], fetch["queue"], fetch["status"], fetch["attempts"], fetch["progress"]) == (
        *("fetch", "fetch_queue", "succeeded", 1, 1.0),
    )
    assert "s3cret" not in str(ended)
    assert ended["results"][0]["filename"].startswith("photo-")


def test_what_cannot_be_fetched_says_so_in_its_step(api: ApiClient) -> None:
    sites = {
        "/none.jpg": answer(404),
        "/text.jpg": answer(200, b"a text"),
        "/moved.jpg": answer(301, location="http://10.0.0.1/"),
    }
    codes = {"/none.jpg": "source_not_found", "/text.jpg": "unsupported_image", "/moved.jpg": "source_url_refused"}
    with receiving(by_path(sites)) as site:
        jobs = {path: taken(api, input={"url": f"{site.origin}{path}"}) for path in sites}
        for path, job in jobs.items():
            ended = api.ended(job["id"])
            assert (ended["status"], ended["error"]["code"]) == ("failed", codes[path])
            assert ended["steps"][0]["error"] == ended["error"]
            assert [step["status"] for step in ended["steps"]] == ["failed", "skipped", "skipped", "skipped"]
            assert ended["input"]["format"] is None


def test_a_result_of_one_job_is_the_input_of_another(api: ApiClient, photo: bytes) -> None:
    first = api.run(photo, [{"op": "resize", "width": 80, "then": ["convert_png"]}])
    (result,) = first["results"]
    second = api.ended(taken(api, input={"job": first["id"], "result": result["name"]})["id"])
    assert second["status"] == "completed"
    assert (second["input"]["sha256"], second["input"]["format"]) == (result["sha256"], "png")
    assert second["input"]["source"] == {"job": first["id"], "result": result["name"]}
    assert api.http.delete(f"/jobs/{first['id']}").status_code == 204
    assert api.download(second["results"][0]).status_code == 200, "it needs nothing of the other one any more"


@pytest.mark.parametrize(
    ("source", "status", "code", "pointer"),
    [
        ({"url": "http://10.0.0.1/1.jpg"}, 422, "source_url_refused", "#/input/url"),
        ({"url": "http://169.254.169.254/latest"}, 422, "source_url_refused", "#/input/url"),
        ({"url": "ftp://127.0.0.1/1.jpg"}, 422, "invalid_source_url", "#/input/url"),
        ({"url": "http://user:pw@127.0.0.1/1.jpg"}, 422, "invalid_source_url", "#/input/url"),
        ({"url": "http://127.0.0.1/1.jpg", "headers": {"Host": "a"}}, 422, "invalid_source", "#/input/headers/Host"),
        ({"url": "http://127.0.0.1/1.jpg", "headers": {"A": "b\r\nC: d"}}, 422, "invalid_source", "#/input/headers/A"),
        (
            {"url": "http://127.0.0.1/1.jpg", "headers": {"A": "1", "a": "2"}},
            422,
            "invalid_source",
            "#/input/headers/a",
        ),
        ({"job": "x", "result": "flip"}, 422, "invalid_source", "#/input/job"),
        ({"job": "0198f3c2-0000-7000-8000-000000000000"}, 422, "invalid_source", "#/input/result"),
        ({"job": "0198f3c2-0000-7000-8000-000000000000", "result": "a"}, 404, "job_not_found", "#/input/job"),
    ],
)
def test_what_is_refused_at_once(api: ApiClient, source: dict[str, Any], status: int, code: str, pointer: str) -> None:
    answered = post(api, input=source)
    problem = answered.json()
    assert (answered.status_code, problem["code"]) == (status, code), problem
    assert problem["errors"][0]["pointer"] == pointer


def test_a_repeat_is_answered_although_its_source_is_gone(api: ApiClient, photo: bytes) -> None:
    first = api.run(photo, ["flip"])
    members = {"input": {"job": first["id"], "result": "flip"}}
    key = {"Idempotency-Key": f"gone-{first['id']}"}
    job = post(api, headers=key, **members).json()
    api.ended(job["id"])
    api.http.delete(f"/jobs/{first['id']}")
    again = post(api, headers=key, **members)
    assert (again.headers["Idempotent-Replayed"], again.json()["id"]) == ("true", job["id"])
    assert post(api, **members).status_code == 404


def test_a_job_that_is_cancelled_while_its_input_comes_can_be_repeated(api: ApiClient, photo: bytes) -> None:
    with receiving(hang, answer(200, photo)) as site:
        job = taken(api, input={"url": f"{site.origin}/1.jpg"})
        site.await_requests(1)
        assert api.http.post(f"/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
        assert api.http.post(f"/jobs/{job['id']}/retry").status_code == 202
        assert api.ended(job["id"])["status"] == "completed"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    running = embedded(tmp_path_factory.mktemp("own"))
    with running.running():
        yield running


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_of_a_fetch_goes_on(own: Deployment, photo: bytes) -> None:
    with receiving(hang, answer(200, photo)) as site:
        with own.client() as api:
            job = taken(api, input={"url": f"{site.origin}/1.jpg"})
        site.await_requests(1)
        own.kill()
        own.start()
        with own.client() as api:
            ended = api.ended(job["id"])
    assert (ended["status"], ended["steps"][0]["attempts"]) == ("completed", 2)
    assert ended["input"]["sha256"] == hashlib.sha256(photo).hexdigest()


@pytest.mark.slow
def test_loopback_is_fetched_from_only_until_there_is_a_key(own: Deployment) -> None:
    """The last of this server, which asks everyone for a key from then on."""
    database = Database(f"sqlite:///{own.folder / 'data' / 'pixtools.db'}")
    with receiving(answer(200, make_photo(32, 32))) as site:
        source = {"url": f"{site.origin}/1.jpg"}
        with own.client() as api:
            assert api.ended(taken(api, input=source)["id"])["status"] == "completed"
        key = new_key(database, DEFAULT_TENANT)
        deadline = time.monotonic() + 20
        with own.client(key) as api:
            while (answered := post(api, input=source)).status_code == 202:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert answered.json()["code"] == "source_url_refused"
    database.close()
