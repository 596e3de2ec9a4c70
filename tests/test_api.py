"""The API from outside, the same in both modes."""

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.conftest import in_one_mode, make_photo
from tests.support.deployment import ApiClient
from tests.support.receiver import answer, receiving
from tests.support.results import TREE, opened
from tests.support.waiting import until

pytestmark = pytest.mark.integration


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
        "source": None,
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


@in_one_mode()
def test_orientation_is_applied(api: ApiClient) -> None:
    job = api.run(make_photo(orientation=6), [{"op": "resize", "width": 320}])
    image = opened(api.download(job["results"][0]).content)
    assert image.size == (320, 240)
    red, green, _ = image.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert red > 180 > green
    assert not image.getexif()


@in_one_mode()
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


@in_one_mode()
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


@in_one_mode()
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
    assert job["steps"][-1]["error"]["code"] == "target_unreachable"


@in_one_mode()
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


def test_head_answers_like_get_without_a_body(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, ["convert_png"])
    for path in (f"/jobs/{job['id']}", "/jobs", "/operations", "/health/live"):
        response = api.http.head(path)
        assert (response.status_code, response.content) == (200, b""), path


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


@in_one_mode()
def test_every_operations_example_runs(api: ApiClient) -> None:
    photo = make_photo(240, 180)
    answer = api.http.get("/operations").json()
    examples, most = [operation["example"] for operation in answer["operations"]], answer["limits"]["max_nodes"]
    for start in range(0, len(examples), most):
        assert api.run(photo, examples[start : start + most])["status"] == "completed"


def test_health(api: ApiClient) -> None:
    assert api.http.get("/health/live").json() == {"status": "ok"}
    ready = until(lambda: (answer := api.http.get("/health/ready")).is_success and answer)
    assert ready.json()["checks"]["database"]["status"] == "ok"


def test_openapi_describes_the_upload_and_every_error(api: ApiClient) -> None:
    document = api.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    post = document["paths"]["/process"]["post"]
    assert set(post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]) == {
        *("file", "operations", "template", "params", "output", "priority", "webhook_url"),
        *("tags", "external_id", "keep_seconds"),
    }
    assert {"202", "400", "409", "413", "415", "422", "503"} <= set(post["responses"])
    assert api.http.get("/docs").status_code == 200
