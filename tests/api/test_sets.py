"""A page's set over HTTP: results, downloads, archive, plan and webhook, the same in both modes."""

import io
import json
import zipfile
from typing import Any

import pytest

from tests.support.deployment import ApiClient
from tests.support.results import opened

pytestmark = pytest.mark.integration

WEB: dict[str, Any] = {"op": "web", "widths": [80, 160, 9000], "formats": ["webp", "jpeg"], "as": "hero"}
NAMES = [
    *("hero.80.jpg", "hero.80.webp", "hero.160.jpg", "hero.160.webp", "hero.640.jpg", "hero.640.webp"),
    *("hero.manifest.json", "hero.picture.html"),
]


def test_every_file_of_a_set_is_a_result(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, [WEB, {"op": "resize", "width": 50, "then": ["convert_png"]}])
    assert [result["name"] for result in job["results"]] == [*NAMES, "resize.convert_png"]
    assert {result["step"] for result in job["results"]} == {"0", "1.0"}
    for result in job["results"]:
        content = api.download(result).content
        assert len(content) == result["bytes"]
        if result["width"] is not None:
            assert opened(content).size == (result["width"], result["height"])
    assert [result["width"] for result in job["results"]][6:8] == [None, None]
    assert job["steps"][0]["report"]["capped"] == {"widths": [9000], "to": 640}
    archive = api.http.get(job["links"]["archive"])
    with zipfile.ZipFile(io.BytesIO(archive.content)) as archived:
        assert sorted(archived.namelist()) == sorted([*NAMES, "photo-resize.convert_png.png"])


def test_markup_is_an_attachment_that_runs_nothing(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, [{**WEB, "alt": '"><script>alert(1)</script>'}])
    result = job["results"][-1]
    answer = api.download(result)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"].startswith('attachment; filename="hero.picture.html"')
    assert "<script" not in answer.text
    if result["url"].startswith(str(api.http.base_url)):  # served here, not by the object storage
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_plan_names_the_files_that_a_job_gives(api: ApiClient, photo: bytes) -> None:
    tree = [WEB, {"op": "crop", "width": 333, "height": 100, "then": [{"op": "web", "width": 200, "dpr": [1, 2]}]}]
    planned = api.http.post("/plan", files={"file": ("a.jpg", photo)}, data={"operations": json.dumps(tree)}).json()
    job = api.run(photo, tree)
    shown = ("name", "step", "format", "width", "height")
    assert sorted([result[name] for name in shown] for result in planned["results"] if result["width"]) == sorted(
        [result[name] for name in shown] for result in job["results"] if result["width"]
    )
    assert {result["name"] for result in planned["results"]} == {result["name"] for result in job["results"]}
    assert planned["cpu_seconds"] > 0
    assert planned["bytes"] > 0


def test_the_template_that_comes_with_the_server(api: ApiClient, photo: bytes) -> None:
    params = json.dumps({"small": 60, "medium": 90, "large": 120, "name": "boats", "alt": "Boats"})
    sent = api.http.post(
        "/process", files={"file": ("a.jpg", photo)}, data={"template": "web", "params": params}
    ).json()
    job = api.ended(sent["id"])
    assert len(job["results"]) == 3 * 3 + 2
    assert 'alt="Boats"' in api.download(job["results"][-1]).text
    wrong = json.dumps({"base_url": "javascript:alert(1)"})
    refused = api.http.post("/process", files={"file": ("a.jpg", photo)}, data={"template": "web", "params": wrong})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/params/base_url")


def test_a_file_of_a_set_may_be_the_input_of_another_job(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, [WEB])
    source = {"job": job["id"], "result": "hero.160.webp"}
    made = api.http.post("/process", json={"input": source, "operations": ["convert_png"]}).json()
    ended = api.ended(made["id"])
    assert [(result["width"], result["format"]) for result in ended["results"]] == [(160, "png")]
    text = api.http.post("/process", json={"input": {**source, "result": NAMES[-1]}, "operations": ["convert_png"]})
    assert api.ended(text.json()["id"])["error"]["code"] == "unsupported_image"


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"widths": [0]}, "#/operations/0/widths/0"),
        ({"bytes_step": 2000}, "#/operations/0"),
        ({"formats": ["gif"]}, "#/operations/0/formats/0"),
        ({"then": ["convert_png"]}, "#/operations/0/then"),
    ],
)
def test_mistakes_are_told_where_they_are(api: ApiClient, photo: bytes, wrong: dict[str, Any], pointer: str) -> None:
    refused = api.process(photo, [{**WEB, **wrong}])
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
