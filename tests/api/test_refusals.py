"""What is refused, in both modes: exactly, completely, and without a trace."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.deployment import ApiClient, Deployment

pytestmark = pytest.mark.integration


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
    response = api.http.post("/process", content=b"[]", headers={"Content-Type": "text/plain"})
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


def test_unknown_parameters_are_refused_with_those_that_there_are(api: ApiClient) -> None:
    answer = api.http.get("/jobs", params={"name": "x"})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "unknown_parameter"
    known = "limit, cursor, status, tag, external_id, filename, created_after, created_before"
    assert problem["detail"] == f"There is no query parameter 'name'; there are {known}."
    assert problem["errors"][0]["pointer"] == "#/query/name"
    twice = api.http.get("/jobs?limit=1&limit=2")
    assert (twice.status_code, twice.json()["code"]) == (422, "unknown_parameter")
    assert api.http.get("/health/live", params={"x": 1}).status_code == 422


def test_the_methods_that_there_are_stand_in_the_answer_to_another_one(api: ApiClient) -> None:
    answer = api.http.put("/jobs/x")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, DELETE"
    assert answer.json()["detail"] == "The method is not allowed at this path; allowed: GET, HEAD, DELETE."


def test_unknown_paths_and_methods_are_problems(api: ApiClient) -> None:
    for response, status in ((api.http.get("/nowhere"), 404), (api.http.delete("/process"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"]


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/jobs?limit=5.0", "limit must be a whole number."),
        ("/jobs/0198f3c2-0000-7000-8000-000000000000/results/x?expires=x", "expires must be a whole number."),
        ("/health?x=1", "There is no query parameter 'x'; this path takes none."),
        ("/nowhere", "There is nothing at this path; /openapi.json lists the paths."),
    ],
)
def test_the_detail_is_a_sentence_that_names_what_is_meant(api: ApiClient, target: str, detail: str) -> None:
    assert api.http.get(target).json()["detail"] == detail


@pytest.mark.parametrize("spelt", ["{job}-", "{{{job}}}", "urn:uuid:{job}"])
def test_a_job_has_one_address(api: ApiClient, photo: bytes, spelt: str) -> None:
    job = api.run(photo, ["flip"])["id"]
    assert api.http.get(f"/jobs/{job.upper()}").status_code == 200
    assert api.http.get(f"/jobs/{spelt.format(job=job)}").status_code == 404
