"""The documentation as pages, and the README's first minute as it is printed there."""

import itertools
import json
import re
import shlex
from html.parser import HTMLParser
from typing import Any

from app.config import Settings
from app.manual import pages
from app.routers.problem_schema import PROBLEM_CODES
from app.schemas import STEP_CODES
from tests.conftest import in_one_mode
from tests.support.deployment import ROOT, ApiClient


class _Addresses(HTMLParser):
    """Where a page leads to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.named: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.named += [known[name] or "" for name in ("href", "src") if name in known]
        self.anchors.add(known.get("id") or "")
        assert "style" not in known  # which the policy would not let through
        assert tag != "script"


@in_one_mode()
def test_every_link_between_pages_leads_somewhere(api: ApiClient) -> None:
    read: dict[str, _Addresses] = {}

    def page(address: str) -> _Addresses:
        if address not in read:
            answer = api.http.get(address)
            assert answer.status_code == 200, address
            is_html = answer.headers["content-type"].startswith("text/html")
            read[address] = _Addresses(answer.text if is_html and address.startswith("/help") else "")
        return read[address]

    for name in pages.names():
        for named in page(pages.address(name)).named:
            address, _, anchor = named.partition("#")
            if named.startswith("/"):
                target = page(address or "/")
                assert not (anchor and address.startswith("/help")) or anchor in target.anchors, f"{name}: {named}"
    assert len(read) > 40


def test_every_problem_leads_to_its_cause_and_cure(api: ApiClient) -> None:
    there = _Addresses(api.http.get("/help/errors").text).anchors
    assert there >= PROBLEM_CODES | STEP_CODES
    problem = api.http.get("/jobs/none").json()
    assert problem["type"] == f"/help/errors#{problem['code']}"


def test_every_setting_has_a_row(api: ApiClient) -> None:
    text = api.http.get("/help/configuration.md").text
    for name in Settings.model_fields:
        assert f"| `PIXTOOLS_{name.upper()}` |" in text
    assert str(ROOT) not in text


def test_machines_find_every_page_as_markdown(api: ApiClient) -> None:
    listed = re.findall(r"\]\((/help/[^)]+\.md)\)", api.http.get("/llms.txt").text)
    assert len(listed) > 15
    assert api.http.get(listed[0]).headers["content-type"].startswith("text/markdown")
    assert api.http.get("/help/..%2f..%2fREADME.md").status_code == 404


def _picture(whole: Any, shown: Any) -> None:
    """What the README shows is part of what comes; `…` stands for the rest."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            _picture(whole[name], value)
    elif isinstance(shown, list):
        for one, other in zip(whole, shown, strict=False):
            _picture(one, other)
    elif isinstance(shown, str) and "…" in shown:
        assert str(whole).startswith(shown.split("…")[0].split("//")[0])
    else:
        assert whole == shown


@in_one_mode()
def test_the_answer_of_the_readme_is_what_comes(api: ApiClient) -> None:
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"\$ (curl .*?)\n```", readme, re.DOTALL)
    printed = re.search(r"```json\n(\{\"id\".*?)\n```", readme, re.DOTALL)
    assert command
    assert printed
    words = shlex.split(command[1].replace("\\\n", " "))
    fields = dict(word.split("=", 1) for flag, word in itertools.pairwise(words) if flag == "-F")
    path = ROOT / fields["file"].removeprefix("@")
    came = api.process(
        path.read_bytes(), fields["operations"], filename=path.name, headers={"Prefer": "wait=60"}
    ).json()
    shown = json.loads(re.sub(r", …(?=[\]}])", "", printed[1]))
    del shown["id"]
    for step in shown["steps"]:
        del step["seconds"]
    _picture(came, shown)
    assert len(shown["results"]) == 3
