"""POST /process with a JSON body, in both modes."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.support.deployment import ApiClient

KEY = "Idempotency-Key"


def data_url(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def post(api: ApiClient, *, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    return api.http.post("/process", json=members, headers=headers)


def test_a_data_url_becomes_a_job_like_any_upload(api: ApiClient, photo: bytes) -> None:
    sent = post(api, input={"url": data_url(photo)}, operations=["convert_webp"], priority=7)
    assert sent.status_code == 202, sent.text
    assert sent.json()["priority"] == 7
    job, form = api.ended(sent.json()["id"]), api.run(photo, ["convert_webp"])
    assert job["status"] == "completed"
    assert [result["sha256"] for result in job["results"]] == [result["sha256"] for result in form["results"]]
    assert job["input"] == {**form["input"], "filename": "image"}


def test_a_repeat_is_the_same_request_whatever_its_white_space(api: ApiClient, photo: bytes) -> None:
    members = {"input": {"url": data_url(photo)}, "operations": ["flip"]}
    headers = {KEY: "json-bodies", "Content-Type": "application/json"}
    first = api.http.post("/process", content=json.dumps(members), headers=headers)
    swapped = dict(reversed(members.items()))
    again = api.http.post("/process", content=json.dumps(swapped, indent=2), headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = post(api, headers={KEY: "json-bodies"}, **members, priority=5)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    form = api.process(photo, ["flip"], headers={KEY: "json-bodies"})
    assert form.json()["code"] == "idempotency_key_reused", "a form is another request"


@pytest.mark.parametrize(
    ("members", "status", "code", "pointer"),
    [
        ({"operations": ["resize"]}, 422, "invalid_parameter", "#/operations/0"),
        ({"operations": "flip"}, 422, "invalid_operations", "#/operations"),
        ({"input": {"url": "data:,text"}}, 415, "unsupported_image", "#/input/url"),
        ({"input": {"url": "data:,"}}, 422, "empty_file", "#/input/url"),
        ({"webhook_url": "ftp://example"}, 422, "invalid_webhook_url", "#/webhook_url"),
        ({"unknown": 1}, 422, "invalid_parameter", "#/unknown"),
    ],
)
def test_what_a_form_would_have_refused(
    api: ApiClient, photo: bytes, members: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    answer = post(api, **{"input": {"url": data_url(photo)}, "operations": ["flip"], **members})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["errors"][0]["pointer"] == pointer


def test_a_body_that_is_too_long_is_not_read_to_its_end(api: ApiClient) -> None:
    answer = api.http.post("/process", content=b" " * 4_000_000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_other_types_are_told_both(api: ApiClient) -> None:
    answer = api.http.post("/process", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["detail"]
    assert "application/json" in answer.json()["detail"]
