"""The page of the API works without the internet: all of it comes from this server, unchanged from its package."""

import hashlib
import re

from app.routers import docs
from tests.support.deployment import ApiClient


def test_the_page_loads_nothing_from_elsewhere(api: ApiClient) -> None:
    page = api.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "//" not in page.text + (docs.STATIC / "docs.js").read_text().replace("// A file", "")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 5
    for address in named:
        answer = api.http.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text


def test_nothing_else_is_served_from_there(api: ApiClient) -> None:
    for name in ("README.md", "..%2fdocs.html", "%2e%2e%2fdocs.html", "LICENSE"):
        assert api.http.get(f"/docs/{name}").status_code == 404


def test_swagger_ui_is_as_its_package_has_it() -> None:
    listed = re.findall(r"^([0-9a-f]{64})  (\S+)$", (docs.SWAGGER / "README.md").read_text(), re.MULTILINE)
    there = {path.name for path in docs.SWAGGER.iterdir()} - {"README.md"}
    assert {name for _, name in listed} == there
    for expected, name in listed:
        assert hashlib.sha256((docs.SWAGGER / name).read_bytes()).hexdigest() == expected
