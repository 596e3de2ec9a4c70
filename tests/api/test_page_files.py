"""The files of the web page: who gets them, under which policy, and that nothing in them leads elsewhere."""

import re
from pathlib import Path

import pytest

from app.routers import page
from tests.support.deployment import ApiClient, Deployment

FOREIGN = re.compile(r"https?://(?!www\.w3\.org/2000/svg|example\.com/photo\.jpg)[\w-]+")
NAMED = re.compile(r"""(?:src|href)="(page/[^"]+)"|from "\./([^"]+)"|url\("([^"]+)"\)""")
TEXTS = [path for path in page.FOLDER.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"}]


def test_the_policy_allows_this_server_and_where_results_are(api: ApiClient, deployment: Deployment) -> None:
    answer = api.http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.partition(" ")[::2] for rule in answer.headers["content-security-policy"].split("; "))
    storage = deployment.environment.get("PIXTOOLS_S3_ENDPOINT")
    results = f" {storage}" if storage else ""
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["font-src"] == "'self'"
    assert policy["connect-src"] == f"'self'{results}"
    assert policy["img-src"] == f"'self' blob:{results}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert not FOREIGN.search(text)
    assert "innerHTML" not in text
    for names in NAMED.findall(text):
        name = "".join(names).removeprefix("page/")
        assert name in page._files(), name


def test_a_file_that_has_not_changed_is_not_sent_again(api: ApiClient) -> None:
    first = api.http.get("/page/app.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = api.http.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_is_served_from_there(api: ApiClient) -> None:
    for name in ("none.js", "index.html", "LICENSE-GeistMono", "..%2fdocs.js", "fonts"):
        assert api.http.get(f"/page/{name}").status_code == 404
