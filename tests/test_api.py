"""The API from outside, the same in both modes."""

import hashlib
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from PIL import Image

from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment
from tests.support.receiver import answer, receiving

pytestmark = pytest.mark.integration

TREE: list[Any] = [
    "convert_avif",
    {"op": "resize", "width": 320, "then": ["convert_webp", {"op": "convert_png", "as": "hero"}]},
]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_tree_of_operations_gives_every_result(api: ApiClient, photo: bytes) -> None:
    response = api.process(photo, TREE, filename="Räder am Fluß.jpg")

    assert response.status_code == 202
    job = response.json()
    assert UUID(job["id"]).version == 7
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert job["status"] == "pending"
    assert job["operations"] == TREE
    assert job["input"] == {
        "filename": "Räder am Fluß.jpg",
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "bytes": len(photo),
        "sha256": hashlib.sha256(photo).hexdigest(),
    }

    job = api.ended(job["id"])
    assert job["status"] == "completed"
    assert job["error"] is None
    assert [(step["id"], step["op"], step["status"], step["attempts"]) for step in job["steps"]] == [
        ("0", "convert_avif", "succeeded", 1),
        ("1", "resize", "succeeded", 1),
        ("1.0", "convert_webp", "succeeded", 1),
        ("1.1", "convert_png", "succeeded", 1),
    ]
    assert {result["name"]: (result["format"], result["width"], result["height"]) for result in job["results"]} == {
        "convert_avif": ("avif", 640, 480),
        "resize.convert_webp": ("webp", 320, 240),
        "hero": ("png", 320, 240),
    }


def test_every_result_downloads_as_what_it_says(api: ApiClient, photo: bytes) -> None:
    for result in api.run(photo, TREE, filename="Räder am Fluß.jpg")["results"]:
        response = api.download(result)
        assert response.status_code == 200
        assert response.headers["content-type"] == result["content_type"]
        assert len(response.content) == result["bytes"]
        assert hashlib.sha256(response.content).hexdigest() == result["sha256"]
        image = opened(response.content)
        assert image.size == (result["width"], result["height"])
        assert image.format == result["format"].upper()
        assert result["filename"].startswith("Räder-am-Fluß-")
        assert "attachment" in response.headers["content-disposition"]
        expires_at = datetime.fromisoformat(result["expires_at"])
        assert timedelta(minutes=50) < expires_at - datetime.now(UTC) < timedelta(minutes=70)


def test_orientation_is_applied(api: ApiClient) -> None:
    job = api.run(make_photo(orientation=6), [{"op": "resize", "width": 320}])
    image = opened(api.download(job["results"][0]).content)
    assert image.size == (320, 240)
    red, green, _ = image.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert red > 180 > green
    assert not image.getexif()


def test_kept_and_linear_operations(api: ApiClient, photo: bytes) -> None:
    tree = [
        {"op": "resize", "width": 400, "keep": True, "then": [{"op": "resize", "width": 100, "then": ["convert_webp"]}]}
    ]
    job = api.run(photo, tree)
    assert {r["name"]: (r["format"], r["width"]) for r in job["results"]} == {
        "resize": ("jpeg", 400),
        "resize.resize.convert_webp": ("webp", 100),
    }


def test_prefer_wait_answers_with_the_ended_job(api: ApiClient, photo: bytes) -> None:
    response = api.process(photo, ["convert_webp"], headers={"Prefer": "wait=30"})
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.json()["status"] == "completed"


def test_prefer_wait_gives_up_in_time(api: ApiClient, photo: bytes) -> None:
    response = api.process(photo, ["convert_webp"], headers={"Prefer": "respond-async, wait=0"})
    assert response.status_code == 202


def test_one_failed_branch_costs_no_other_branch(api: ApiClient) -> None:
    image = make_photo(1000, 100)  # upscaled over the pixel limit in one branch only
    tree = [
        "convert_webp",
        {
            "op": "resize",
            "width": 4000,
            "height": 4000,
            "fit": "fill",
            "enlarge": True,
            "then": ["convert_webp", "convert_png"],
        },
    ]
    job = api.run(image, tree)
    assert job["status"] == "completed_with_errors"
    assert [result["name"] for result in job["results"]] == ["convert_webp"]
    assert [step["status"] for step in job["steps"]] == ["succeeded", "failed", "skipped", "skipped"]
    assert job["error"]["code"] == "image_too_large"
    assert job["steps"][1]["error"] == job["error"]


def test_broken_pixels_fail_at_once_with_a_clear_error(api: ApiClient, photo: bytes) -> None:
    broken = bytearray(photo)
    middle = len(broken) // 2
    broken[middle : middle + 4000] = bytes(4000)
    job = api.run(bytes(broken), ["convert_webp", "convert_png"])
    assert job["status"] == "failed"
    assert job["results"] == []
    assert job["error"] == {
        "code": "corrupt_image",
        "message": "The image data is corrupt and cannot be decoded.",
        "retryable": False,
    }
    assert [step["attempts"] for step in job["steps"]] == [1, 1]


def gif(frames: int) -> bytes:
    buffer = io.BytesIO()
    images = [Image.new("L", (40, 30), shade) for shade in range(frames)]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=20)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than its data has."""
    small = io.BytesIO()
    Image.new("L", (1, 1)).save(small, "PNG")
    content = bytearray(small.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(content)


def nested(depth: int) -> list[Any]:
    tree: list[Any] = ["resize"]
    for _ in range(depth - 1):
        tree = [{"op": "resize", "width": 10, "then": tree}]
    return tree


BAD: dict[str, tuple[Any, ...]] = {
    # what is sent, and what must come back
    "empty file": (422, "empty_file", None, None, None, b"", ["convert_webp"], "a.jpg"),
    "not an image": (415, "unsupported_image", None, None, None, b"hello world" * 20, ["convert_webp"], "a.jpg"),
    "truncated image": (422, "truncated_image", None, None, None, "half", ["convert_webp"], "a.jpg"),
    "too many bytes": (413, "upload_too_large", "#/file", 3_000_000, None, bytes(4_000_000), ["convert_webp"], "a.jpg"),
    "too many pixels": (422, "limit_exceeded", "#/file", 4_000_000, 9_000_000, png_header(3000, 3000), ["convert_webp"], "a.png"),
    "too long a side": (422, "limit_exceeded", "#/file", 4000, 5000, png_header(5000, 10), ["convert_webp"], "a.png"),
    "too many frames": (422, "limit_exceeded", "#/file", 5, 6, gif(6), ["convert_webp"], "a.gif"),
    "too many nodes": (422, "too_many_operations", "#/operations", 8, 9, None, ["convert_webp"] * 9, "a.jpg"),
    "too deep": (422, "tree_too_deep", "#/operations/0/then/0/then/0/then/0/then", 4, 5, None, nested(5), "a.jpg"),
    "absurdly deep": (422, "tree_too_deep", "#/operations", 4, None, None, "[" * 20000 + "]" * 20000, "a.jpg"),
    "unknown operation": (422, "unknown_operation", "#/operations/1", None, "explode", None, ["convert_webp", "explode"], "a.jpg"),
    "parameter over its limit": (
        422, "invalid_parameter", "#/operations/0/then/0/width", 16384, 20000, None,
        [{"op": "resize", "width": 10, "then": [{"op": "resize", "width": 20000}]}], "a.jpg",
    ),
    "parameter of a wrong type": (
        422, "invalid_parameter", "#/operations/0/width", None, "wide", None, [{"op": "resize", "width": "wide"}], "a.jpg",
    ),
    "unknown parameter": (
        422, "invalid_parameter", "#/operations/0/widht", None, 10, None, [{"op": "resize", "widht": 10, "width": 5}], "a.jpg",
    ),
    "missing parameter": (422, "invalid_parameter", "#/operations/0", None, None, None, ["resize"], "a.jpg"),
    "not JSON": (422, "invalid_json", "#/operations", None, None, None, "[convert_webp", "a.jpg"),
    "not an array": (422, "invalid_operations", "#/operations", None, None, None, '{"op": "resize"}', "a.jpg"),
    "empty tree": (422, "invalid_operations", "#/operations", None, None, None, [], "a.jpg"),
    "too long a tree": (413, "field_too_long", "#/operations", 65536, None, None, "[" + " " * 70000 + "]", "a.jpg"),
    "long file name": (422, "invalid_filename", "#/file", 255, 304, None, ["convert_webp"], "a" * 300 + ".jpg"),
    "file name with a path": (422, "invalid_filename", "#/file", None, "../a.jpg", None, ["convert_webp"], "../a.jpg"),
    "two results of one name": (
        422, "duplicate_result_name", "#/operations/1/as", None, "x", None,
        [{"op": "convert_webp", "as": "x"}, {"op": "convert_png", "as": "x"}], "a.jpg",
    ),
    "result name with a path": (
        422, "invalid_result_name", "#/operations/0/as", 64, "../x", None, [{"op": "convert_webp", "as": "../x"}], "a.jpg",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_leaves_nothing(api: ApiClient, photo: bytes, case: str) -> None:
    status, code, pointer, limit, value, file, operations, filename = BAD[case]
    content = photo if file is None else photo[: len(photo) // 2] if file == "half" else file
    before = api.total_jobs()

    response = api.process(content, operations, filename=filename)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    where = {**problem, **problem.get("errors", [{}])[0]}
    if pointer:
        assert where["pointer"].removesuffix("/op") == pointer
    if limit:
        assert where["limit"] == limit
    if value:
        assert where["value"] == value
    assert api.total_jobs() == before


def test_every_mistake_in_a_tree_is_reported(api: ApiClient, photo: bytes) -> None:
    tree = [{"op": "resize", "width": 0}, {"op": "convert_webp", "quality": 101, "effort": "x"}, 7]
    errors = api.process(photo, tree).json()["errors"]
    assert {error["pointer"] for error in errors} == {
        "#/operations/0/width",
        "#/operations/1/quality",
        "#/operations/1/effort",
        "#/operations/2",
    }


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "http://", "example.org/x", "https://user:pw@example.org/", "x" * 2100]
)
def test_a_webhook_url_must_be_usable(api: ApiClient, photo: bytes, url: str) -> None:
    response = api.process(photo, ["convert_webp"], webhook_url=url)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_webhook_url")


def test_a_form_that_ends_early_is_refused(api: ApiClient, photo: bytes) -> None:
    request = api.http.build_request(
        "POST", "/process", data={"operations": '["convert_webp"]'}, files={"file": ("a.jpg", photo)}
    )
    body = request.read()[: len(photo) // 2]
    response = api.http.post("/process", content=body, headers={"Content-Type": request.headers["content-type"]})
    assert (response.status_code, response.json()["code"]) == (400, "truncated_request")


def test_a_body_of_another_type_is_refused(api: ApiClient) -> None:
    response = api.http.post("/process", json={"operations": []})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_missing_and_unknown_fields_are_named(api: ApiClient, photo: bytes) -> None:
    missing = api.http.post("/process", files={"file": ("a.jpg", photo)}).json()
    assert (missing["code"], missing["errors"][0]["pointer"]) == ("missing_field", "#/operations")
    no_file = api.http.post("/process", files={"operations": (None, '["convert_webp"]')}).json()
    assert (no_file["code"], no_file["errors"][0]["pointer"]) == ("missing_field", "#/file")
    unknown = api.process(photo, ["convert_webp"], webhook="http://127.0.0.1:9/").json()
    assert (unknown["code"], unknown["errors"][0]["pointer"]) == ("unknown_field", "#/webhook")


def test_an_oversized_body_without_a_length_is_refused_while_it_streams(deployment: Deployment) -> None:
    sent = 0

    def body() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        for _ in range(1000):
            sent += 65536
            yield bytes(65536)

    try:
        response = httpx.post(
            f"{deployment.url}/process",
            content=body(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
            timeout=30,
        )
    except httpx.HTTPError:
        assert sent < 64_000_000  # the server hung up on a client that did not listen
    else:
        assert (response.status_code, response.json()["code"]) == (413, "upload_too_large")


def test_idempotency_key_replays_the_stored_answer(api: ApiClient, photo: bytes) -> None:
    key = str(uuid4())
    first = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": key})
    api.ended(first.json()["id"])
    again = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": f'"{key}"'})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


def test_idempotency_key_with_another_payload_is_refused(api: ApiClient, photo: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    api.accepted(photo, ["convert_webp"], headers=headers)
    for image, tree in ((photo, ["convert_png"]), (make_photo(seed=9), ["convert_webp"])):
        response = api.process(image, tree, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


def test_idempotency_keys_of_different_callers_are_different(api: ApiClient, photo: bytes) -> None:
    key = str(uuid4())
    jobs = {
        api.accepted(photo, ["convert_webp"], headers={"Idempotency-Key": key, "Authorization": f"Bearer {who}"})["id"]
        for who in ("ann", "bob")
    }
    assert len(jobs) == 2


@pytest.mark.parametrize("key", ['""', '"unclosed', "a" * 256, "ä"])
def test_a_malformed_idempotency_key_is_refused(api: ApiClient, photo: bytes, key: str) -> None:
    response = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


def test_fifty_concurrent_posts_with_one_key_make_one_job(api: ApiClient, photo: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    before = api.total_jobs()
    with ThreadPoolExecutor(50) as threads:
        answers = list(
            threads.map(lambda _: api.process(photo, ["convert_webp"], headers=headers), range(50)),
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert api.total_jobs() == before + 1


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


def test_unknown_parameters_are_refused_with_those_that_there_are(api: ApiClient) -> None:
    answer = api.http.get("/jobs", params={"filename": "x"})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "unknown_parameter"
    assert problem["detail"] == "There is no query parameter 'filename'; there are limit, cursor, status."
    assert problem["errors"][0]["pointer"] == "#/query/filename"
    twice = api.http.get("/jobs?limit=1&limit=2")
    assert (twice.status_code, twice.json()["code"]) == (422, "unknown_parameter")
    assert api.http.get("/health/live", params={"x": 1}).status_code == 422


def test_the_methods_that_there_are_stand_in_the_answer_to_another_one(api: ApiClient) -> None:
    answer = api.http.put("/jobs/x")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, DELETE"
    assert answer.json()["detail"] == "The method is not allowed at this path; allowed: GET, HEAD, DELETE."


def test_names_in_an_archive_are_unique_however_long_the_uploads_is(api: ApiClient, photo: bytes) -> None:
    tree = [
        "convert_webp",
        {"op": "resize", "width": 20, "then": ["convert_webp", {"op": "convert_webp", "as": "hero"}]},
    ]
    job = api.run(photo, tree, filename="漢" * 100 + ".jpg")
    archive = api.http.get(job["links"]["archive"])
    names = zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert len(set(names)) == 3
    assert [name[name.rindex("漢") + 1 :] for name in names] == [
        "-convert_webp.webp",
        "-resize.convert_webp.webp",
        "-hero.webp",
    ]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/archive")]
)
@pytest.mark.parametrize("job_id", ["0199aaaa-0000-7000-8000-000000000000", "no-uuid"])
def test_a_job_that_is_not_there(api: ApiClient, method: str, path: str, job_id: str) -> None:
    response = api.http.request(method, f"/jobs/{job_id}{path}")
    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


def test_cancel_ends_a_job(api: ApiClient) -> None:
    slow = make_photo(1400, 1300)
    for _ in range(3):  # keep the workers busy, so that the last job has something left to cancel
        api.accepted(slow, [{"op": "convert_avif", "effort": 4}])
    job_id = api.accepted(slow, [{"op": "convert_avif", "effort": 4}, "convert_png"])["id"]
    job = api.http.post(f"/jobs/{job_id}/cancel").json()
    assert job["status"] == "cancelled"
    assert job["finished_at"]
    assert "cancelled" in {step["status"] for step in job["steps"]}
    assert api.http.post(f"/jobs/{job_id}/cancel").status_code == 200
    for _ in range(20):
        assert api.job(job_id)["status"] == "cancelled"
        time.sleep(0.05)

    retried = api.http.post(f"/jobs/{job_id}/retry")
    assert retried.status_code == 202
    assert api.ended(job_id)["status"] == "completed"


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


def test_a_running_job_can_be_deleted(api: ApiClient) -> None:
    job_id = api.accepted(make_photo(2000, 1900), [{"op": "convert_avif", "effort": 4}])["id"]
    assert api.http.delete(f"/jobs/{job_id}").status_code == 204
    assert api.http.get(f"/jobs/{job_id}").status_code == 404


def test_an_output_contract_is_kept_and_reported_or_fails_its_branch(api: ApiClient, photo: bytes) -> None:
    tree = [
        {"op": "resize", "width": 320, "then": [{"op": "convert_jpeg", "max_bytes": 6000}]},
        {"op": "convert_webp", "min_ssim": 0.9, "max_bytes": 10},
    ]
    job = api.run(photo, tree)
    assert job["status"] == "completed_with_errors"
    (result,) = job["results"]
    reports = {step["id"]: step["report"] for step in job["steps"]}
    assert reports["0.0"]["bytes"] == result["bytes"] == len(api.download(result).content) <= 6000
    assert job["steps"][-1]["error"]["code"] == "contract_unreachable"


def test_pixel_operations_in_a_row(api: ApiClient, photo: bytes) -> None:
    tree = [
        {
            "op": "crop",
            "width": 400,
            "height": 300,
            "gravity": "northwest",
            "then": [
                {
                    "op": "rotate",
                    "angle": 90,
                    "then": [{"op": "flip", "then": ["sharpen"]}],
                },
                {"op": "trim", "as": "trimmed"},
            ],
        },
        {"op": "resize", "width": 200, "height": 200, "fit": "contain", "as": "padded"},
    ]
    sizes = {result["name"]: (result["width"], result["height"]) for result in api.run(photo, tree)["results"]}
    assert sizes["crop.rotate.flip.sharpen"] == (300, 400)
    assert sizes["padded"] == (200, 200)


def test_archive_has_every_result(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, TREE)
    response = api.http.get(job["links"]["archive"])
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        contents = {info.filename: hashlib.sha256(archive.read(info)).hexdigest() for info in archive.infolist()}
    assert contents == {result["filename"]: result["sha256"] for result in job["results"]}


def test_archive_of_a_job_without_results(api: ApiClient, photo: bytes) -> None:
    broken = photo[: len(photo) // 2] + bytes(3000) + photo[len(photo) // 2 + 3000 :]
    job = api.run(broken, ["convert_png"])
    assert api.http.get(job["links"]["archive"]).json()["code"] == "result_not_found"


def test_a_changed_download_link_is_refused(api: ApiClient, photo: bytes) -> None:
    url = httpx.URL(api.run(photo, ["convert_png"])["results"][0]["url"])
    for name in url.params:
        if "ignature" in name or "xpires" in name:
            assert httpx.get(url.copy_set_param(name, "1" + url.params[name][1:] + "1")).status_code in {400, 403}


def test_downloads_can_be_resumed(api: ApiClient, photo: bytes) -> None:
    result = api.run(photo, ["convert_png"])["results"][0]
    whole = api.download(result).content
    part = httpx.get(result["url"], headers={"Range": "bytes=100-"})
    assert part.status_code == 206
    assert part.content == whole[100:]


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)  # S3 serves its own objects
class TestLocalDownloads:
    def get(self, api: ApiClient, photo: bytes, **headers: str) -> tuple[httpx.Response, bytes]:
        result = api.run(photo, ["convert_png"])["results"][0]
        return httpx.get(result["url"], headers=headers), api.download(result).content

    @pytest.mark.parametrize("unheeded", ["bytes=9-3", "bytes=", "rows=1-2", "bytes=1-2,5-6", "nonsense"])
    def test_a_range_that_cannot_be_heeded_is_ignored(self, api: ApiClient, photo: bytes, unheeded: str) -> None:
        response, whole = self.get(api, photo, Range=unheeded)
        assert (response.status_code, response.content) == (200, whole)

    @pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
    def test_a_range_behind_the_end_is_a_problem(self, api: ApiClient, photo: bytes, asked: str) -> None:
        response, whole = self.get(api, photo, Range=asked)
        assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")
        assert response.headers["Content-Range"] == f"bytes */{len(whole)}"

    def test_what_the_client_has_is_not_sent_again(self, api: ApiClient, photo: bytes) -> None:
        result = api.run(photo, ["convert_png"])["results"][0]
        etag = api.download(result).headers["ETag"]
        again = httpx.get(result["url"], headers={"If-None-Match": f'"other", W/{etag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert httpx.get(result["url"], headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_answers_like_get_without_a_body(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, ["convert_png"])
    for path in (f"/jobs/{job['id']}", "/jobs", "/operations", "/health/live"):
        response = api.http.head(path)
        assert (response.status_code, response.content) == (200, b""), path


def test_two_idempotency_keys_are_refused(api: ApiClient, photo: bytes) -> None:
    files = {"file": ("a.jpg", photo), "operations": (None, '["convert_png"]')}
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    response = api.http.post("/process", files=files, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


def test_the_webhook_tells_the_end_and_repeats_after_a_failure(api: ApiClient, photo: bytes) -> None:
    with receiving(answer(500), answer(204)) as receiver:
        job = api.run(photo, ["convert_png"], webhook_url=receiver.url)
        first, second = receiver.await_requests(2)
    assert first.event["type"] == "job.completed"
    assert first.event["data"]["id"] == job["id"]
    assert first.event["data"]["results"][0]["sha256"] == job["results"][0]["sha256"]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert second.event["type"] == first.event["type"]


def test_operations_are_described(api: ApiClient) -> None:
    answer = api.http.get("/operations").json()
    resize = next(operation for operation in answer["operations"] if operation["name"] == "resize")
    assert resize["params"]["properties"]["fit"]["enum"] == ["inside", "outside", "cover", "contain", "fill"]
    assert answer["limits"]["max_nodes"] == 8


def test_every_operations_example_runs(api: ApiClient, photo: bytes) -> None:
    answer = api.http.get("/operations").json()
    examples, most = [operation["example"] for operation in answer["operations"]], answer["limits"]["max_nodes"]
    for start in range(0, len(examples), most):
        assert api.run(photo, examples[start : start + most])["status"] == "completed"


def test_health(api: ApiClient) -> None:
    assert api.http.get("/health/live").json() == {"status": "ok"}
    ready = api.http.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["checks"]["database"]["status"] == "ok"


def test_unknown_paths_and_methods_are_problems(api: ApiClient) -> None:
    for response, status in ((api.http.get("/nowhere"), 404), (api.http.delete("/process"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"]


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/jobs?limit=5.0", "limit must be a whole number."),
        ("/jobs/0198f3c2-0000-7000-8000-000000000000/results/x", "expires is missing."),
        ("/health?x=1", "There is no query parameter 'x'; this path takes none."),
        ("/nowhere", "There is nothing at this path; /openapi.json lists those that there are."),
    ],
)
def test_the_detail_is_a_sentence_that_names_what_is_meant(api: ApiClient, target: str, detail: str) -> None:
    assert api.http.get(target).json()["detail"] == detail


def test_openapi_describes_the_upload_and_every_error(api: ApiClient) -> None:
    document = api.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    post = document["paths"]["/process"]["post"]
    assert set(post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]) == {
        "file",
        "operations",
        "priority",
        "webhook_url",
    }
    assert {"202", "400", "409", "413", "415", "422", "503"} <= set(post["responses"])
    assert api.http.get("/docs").status_code == 200
