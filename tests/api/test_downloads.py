"""Results and archives from outside, the same in both modes."""

import hashlib
import io
import zipfile

import httpx
import pytest

from tests.support.deployment import ApiClient
from tests.support.results import TREE

pytestmark = pytest.mark.integration


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
            changed = url.copy_set_param(name, "1" + url.params[name][1:] + "1")
            assert httpx.get(changed, timeout=30).status_code in {400, 403}


def test_downloads_can_be_resumed(api: ApiClient, photo: bytes) -> None:
    result = api.run(photo, ["convert_png"])["results"][0]
    whole = api.download(result).content
    part = httpx.get(result["url"], headers={"Range": "bytes=100-"}, timeout=30)
    assert part.status_code == 206
    assert part.content == whole[100:]


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)  # S3 serves its own objects
class TestLocalDownloads:
    def get(self, api: ApiClient, photo: bytes, **headers: str) -> tuple[httpx.Response, bytes]:
        result = api.run(photo, ["convert_png"])["results"][0]
        return httpx.get(result["url"], headers=headers, timeout=30), api.download(result).content

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
        again = httpx.get(result["url"], headers={"If-None-Match": f'"other", W/{etag}'}, timeout=30)
        assert (again.status_code, again.content) == (304, b"")
        assert httpx.get(result["url"], headers={"If-None-Match": '"other"'}, timeout=30).status_code == 200
