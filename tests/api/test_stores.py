"""Stores over HTTP: saved, tried, shown without their secrets, and the place that inputs come from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from pixtools_client import Client, Invalid

from tests.support.commands import run
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.processes import pixtools
from tests.support.servers import ObjectStoreServer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(object_store_server: ObjectStoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder, endpoint = tmp_path_factory.mktemp("stores"), object_store_server.endpoint
    deployment = embedded(
        folder, PIXTOOLS_STORE_ENDPOINTS=f"{endpoint}/", PIXTOOLS_FILE_STORE_ROOTS=str(folder / "shared")
    )
    with deployment.running():
        yield deployment


@pytest.fixture
def api(server: Deployment) -> Iterator[ApiClient]:
    with server.client() as client:
        yield client


@pytest.fixture
def connection(object_store_server: ObjectStoreServer) -> dict[str, Any]:
    return {
        "url": f"s3://{object_store_server.bucket}",
        "endpoint": object_store_server.endpoint,
        "credentials": {
            "access_key_id": object_store_server.access_key,
            "secret_access_key": object_store_server.secret_key,
        },
    }


def test_a_store_is_saved_shown_changed_and_forgotten(api: ApiClient, connection: dict[str, Any]) -> None:
    assert api.http.get("/stores/in").json()["code"] == "store_not_found"
    saved = api.http.put("/stores/in", json=connection)
    assert (saved.status_code, saved.headers["Location"]) == (201, "/stores/in")
    secret = connection["credentials"]["secret_access_key"]
    for shown in (saved, api.http.get("/stores/in"), api.http.get("/stores"), api.http.get("/openapi.json")):
        assert secret not in shown.text
        assert "credentials" not in shown.json()
    assert api.http.put("/stores/in", json=connection).status_code == 200
    assert [store["name"] for store in api.http.get("/stores").json()["data"]] == ["in"]
    assert api.http.delete("/stores/in").status_code == 204
    assert api.http.delete("/stores/in").status_code == 404


def test_a_store_that_does_not_work_is_not_saved(api: ApiClient, connection: dict[str, Any]) -> None:
    wrong = {**connection["credentials"], "secret_access_key": "wrong"}
    for change, code in (
        ({"credentials": wrong}, "store_refused"),
        ({"url": "s3://pixtools-nowhere"}, "store_refused"),
        ({"endpoint": "http://127.0.0.1:1"}, "store_endpoint_refused"),
        ({"endpoint": "http://169.254.169.254"}, "store_endpoint_refused"),
        ({"url": "file:///etc"}, "invalid_store"),
    ):
        refused = api.http.put("/stores/in", json={**connection, **change})
        assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
        assert "wrong" not in refused.text
    assert api.http.get("/stores").json() == {"data": []}


def test_the_client_and_the_command_line_save_stores_and_show_no_secret(
    server: Deployment,
    connection: dict[str, Any],
    object_store_server: ObjectStoreServer,
    photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    obstore.put(object_store_server.store(), "by-client/1.jpg", photo)
    url, endpoint, credentials = (connection[name] for name in ("url", "endpoint", "credentials"))
    with Client(server.url) as client:
        assert client.put_store("mine", url, credentials, endpoint=endpoint)["url"] == url
        job = client.run(
            {"store": "mine", "key": "by-client/1.jpg"},
            ["flip"],
            output={"store": "mine", "key": "by-client/{name}.{ext}"},
        )
        assert (job["results"][0]["output"] or {})["key"] == "by-client/flip.jpg"
        with pytest.raises(Invalid) as refused:
            client.put_store("mine", url, {**credentials, "secret_access_key": "wrong"}, endpoint=endpoint)
        assert refused.value.code == "store_refused"
        client.delete_store("mine")
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(credentials))
    put = ("stores", "put", "own", url, "--endpoint", endpoint, "--credentials")
    monkeypatch.setenv("PIXTOOLS_URL", server.url)
    assert run(*put, str(file)).stdout == "own\n"
    shown = [run("stores", *which).stdout for which in (("list",), ("show", "own"))]
    assert all(url in text and credentials["secret_access_key"] not in text for text in shown)
    file.write_text("secret, and no JSON")
    wrong = pixtools(server, *put, str(file))
    assert (wrong.returncode, "is not JSON" in wrong.stderr, "secret," in wrong.stderr) == (2, True, False)
    assert run("stores", "delete", "own").exit_code == 0
    assert run("stores", "list").stdout == ""


def test_an_object_of_a_store_is_an_input(
    api: ApiClient, connection: dict[str, Any], object_store_server: ObjectStoreServer, photo: bytes
) -> None:
    obstore.put(object_store_server.store(), "2026/my photo.jpg", photo)
    api.http.put("/stores/photos", json=connection)
    sent = api.http.post(
        "/process", json={"input": {"store": "photos", "key": "2026/my photo.jpg"}, "operations": ["convert_webp"]}
    )
    assert sent.status_code == 202, sent.text
    job = api.ended(sent.json()["id"])
    assert job["status"] == "completed", job
    assert job["input"]["source"] == {"store": "photos", "key": "2026/my photo.jpg"}
    assert job["input"]["filename"] == "my photo.jpg"
    form = api.run(photo, ["convert_webp"])
    assert [each["sha256"] for each in job["results"]] == [each["sha256"] for each in form["results"]]
    missing = api.http.post("/process", json={"input": {"store": "photos", "key": "none"}, "operations": ["flip"]})
    assert api.ended(missing.json()["id"])["error"]["code"] == "source_not_found"
    unknown = api.http.post("/process", json={"input": {"store": "none", "key": "a"}, "operations": ["flip"]})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (404, "#/input/store")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "./a", "a\n", "x" * 1025])
def test_keys_that_no_object_has_are_refused(api: ApiClient, connection: dict[str, Any], key: str) -> None:
    refused = api.http.post("/process", json={"input": {"store": "photos", "key": key}, "operations": ["flip"]})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/input/key")


def test_results_are_written_to_a_store_as_well(
    api: ApiClient, connection: dict[str, Any], object_store_server: ObjectStoreServer, photo: bytes
) -> None:
    obstore.put(object_store_server.store(), "in/2026/1.jpg", photo)
    api.http.put("/stores/photos", json=connection)
    tree = [{"op": "resize", "width": 80, "then": ["convert_webp", {"op": "convert_png", "as": "small.png"}]}, "flip"]
    output = {"store": "photos", "key": "out/{input.dir}/{input.stem}/{name}.{ext}", "cache_control": "max-age=60"}
    members = {"input": {"store": "photos", "key": "in/2026/1.jpg"}, "operations": tree, "output": output}
    job = api.ended(api.http.post("/process", json=members).json()["id"])
    assert job["status"] == "completed", job
    keys = {each["name"]: each["output"]["key"] for each in job["results"]}
    assert keys == {
        "resize.convert_webp": "out/in/2026/1/resize.convert_webp.webp",
        "small.png": "out/in/2026/1/small.png",
        "flip": "out/in/2026/1/flip.jpg",
    }
    for each in job["results"]:
        written = each["output"]
        assert written["url"] == f"{connection['url']}/{written['key']}"
        assert written["written"]
        stored = obstore.get(object_store_server.store(), written["key"])
        assert stored.attributes["Content-Type"] == each["content_type"]
        assert bytes(stored.bytes()) == api.download(each).content
    skipped = {**output, "if_exists": "skip"}
    form = api.process(photo, ["flip"], filename="1.jpg", output=json.dumps({**skipped, "key": keys["flip"]}))
    (result,) = api.ended(form.json()["id"])["results"]
    assert not result["output"]["written"]
    failing = api.process(photo, ["flip"], output=json.dumps({**skipped, "key": keys["flip"], "if_exists": "fail"}))
    assert api.ended(failing.json()["id"])["error"]["code"] == "output_exists"


def test_the_files_of_a_set_lie_side_by_side_in_a_store(
    api: ApiClient, connection: dict[str, Any], object_store_server: ObjectStoreServer, photo: bytes
) -> None:
    api.http.put("/stores/photos", json=connection)
    tree = [{"op": "web", "widths": [40, 80], "formats": ["webp", "jpeg"], "as": "hero"}]
    output = {"store": "photos", "key": "sets/{input.stem}/{name}.{ext}"}
    for key in ("sets/{name}", "sets/{ext}"):
        refused = api.process(photo, tree, output=json.dumps({**output, "key": key}))
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_output")
        assert "{name}.{ext}" in refused.json()["errors"][0]["detail"]
    job = api.run(photo, tree, filename="1.jpg", output=json.dumps(output))
    assert job["status"] == "completed", job
    keys = [result["output"]["key"] for result in job["results"]]
    assert keys == [f"sets/1/{result['name']}" for result in job["results"]]
    stored = obstore.get(object_store_server.store(), "sets/1/hero.picture.html")
    assert stored.attributes["Content-Disposition"].startswith("attachment")
    assert b'srcset="hero.40.webp 40w, hero.80.webp 80w"' in bytes(stored.bytes())
    image = obstore.get(object_store_server.store(), "sets/1/hero.80.webp")
    assert image.attributes["Content-Disposition"].startswith("inline")


def test_a_folder_is_connected_to_by_the_operator_alone(server: Deployment, api: ApiClient, photo: bytes) -> None:
    root = server.folder / "shared"
    for name in ("in", "out"):
        (root / name).mkdir(parents=True)
    (root / "in" / "1.jpg").write_bytes(photo)
    (root / "in" / "2.jpg").symlink_to(root / "in" / "1.jpg")
    refused = api.http.put("/stores/folder", json={"url": (root / "in").as_uri(), "credentials": {}})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_store")
    assert "pixtools server stores put" in refused.json()["detail"]
    elsewhere = pixtools(server, "server", "stores", "put", "folder", server.folder.as_uri())
    assert (elsewhere.returncode, "PIXTOOLS_FILE_STORE_ROOTS" in elsewhere.stderr) == (1, True)
    for name in ("in", "out"):
        assert server.command("server", "stores", "put", f"folder-{name}", (root / name).as_uri()) == f"folder-{name}"
    assert api.http.get("/stores/folder-in").json()["url"] == (root / "in").as_uri()
    request = {
        "input": {"store": "folder-in", "key": "1.jpg"},
        "operations": ["convert_webp", "flip"],
        "output": {"store": "folder-out", "key": "{input.stem}/{name}.{ext}", "if_exists": "fail"},
    }
    job = api.ended(api.http.post("/process", json=request).json()["id"])
    assert job["status"] == "completed", job
    for result in job["results"]:
        path = root / "out" / result["output"]["key"]
        assert result["output"]["url"] == path.as_uri()
        assert path.read_bytes() == api.download(result).content
    assert {path.name for path in (root / "out" / "1").iterdir()} == {"convert_webp.webp", "flip.jpg"}
    again = api.ended(api.http.post("/process", json={**request, "operations": ["flip"]}).json()["id"])
    assert again["results"][0]["output"]["written"], "the same bytes are as good as written"
    linked = api.http.post("/process", json={**request, "input": {"store": "folder-in", "key": "2.jpg"}})
    assert api.ended(linked.json()["id"])["error"]["code"] == "source_not_found"
    assert api.http.delete("/stores/folder-in").status_code == 204


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"store": "none"}, 404, "store_not_found", "#/output/store"),
        ({"key": "one.jpg"}, 422, "invalid_output", "#/output/key"),
        ({"key": "{what}"}, 422, "invalid_output", "#/output/key"),
    ],
)
def test_an_output_that_cannot_be_is_refused_at_once(
    api: ApiClient,
    connection: dict[str, Any],
    photo: bytes,
    change: dict[str, Any],
    status: int,
    code: str,
    pointer: str,
) -> None:
    api.http.put("/stores/photos", json=connection)
    output = {"store": "photos", "key": "{name}.{ext}", **change}
    refused = api.process(photo, ["flip", "convert_png"], output=json.dumps(output))
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert refused.json()["errors"][0]["pointer"] == pointer


def test_results_that_would_overwrite_each_other_are_named_also_by_a_plan(
    api: ApiClient, connection: dict[str, Any], photo: bytes
) -> None:
    api.http.put("/stores/photos", json=connection)
    tree = [{"op": "convert_webp", "as": "hero.webp"}, {"op": "convert_png", "as": "hero.png"}]
    output = json.dumps({"store": "photos", "key": "{input.stem}/{name}"})
    refused = api.process(photo, tree, output=output)
    form = {"operations": json.dumps(tree), "output": output}
    planned = api.http.post("/plan", data=form, files={"file": ("photo.jpg", photo)})
    for answer in (refused, planned):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_output"), answer.text
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "#/output/key"
        assert all(name in error["detail"] for name in ("'hero.webp'", "'hero.png'", "{ext}")), error
    right = json.dumps({"store": "photos", "key": "apart/{name}.{ext}"})
    job = api.run(photo, tree, output=right)
    assert {each["output"]["key"] for each in job["results"]} == {"apart/hero.webp", "apart/hero.png"}
