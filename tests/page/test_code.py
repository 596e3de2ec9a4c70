"""The request of a recipe, as the page writes it in each language: run as it stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.page.chromium import first_key, show
from tests.page.test_workbench import add_operation
from tests.support.deployment import Deployment

PROGRAMS = {
    "curl": ("request.sh", ("bash", "request.sh")),
    "Python": ("request.py", (sys.executable, "request.py")),
    "TypeScript": ("request.mjs", ("node", "request.mjs")),
}


def said_by(page: Page, tab: str, folder: Path, photograph: Path, **variables: str) -> str:
    """What the text of a tab says when it is run in the photograph's folder."""
    page.get_by_role("button", name="Clear").first.click()
    add_operation(page, "Add an operation", "resize")
    page.get_by_label("Width", exact=True).fill("64")
    add_operation(page, "Continue after resize", "webp")
    page.set_input_files("#files", photograph)
    page.get_by_role("tab", name=tab).click()
    name, command = PROGRAMS[tab]
    (folder / name).write_text(page.locator("#code-text").inner_text())
    (folder / photograph.name).write_bytes(photograph.read_bytes())
    own = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **variables}
    ran = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=90)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("tab", PROGRAMS)
def test_each_text_is_a_program(page: Page, tab: str, tmp_path: Path, photographs: list[Path]) -> None:
    said = said_by(page, tab, tmp_path, photographs[2])
    assert "resize.convert_webp" in said
    if tab == "curl":
        assert json.loads(said)["results"][0]["width"] == 64


def test_each_text_sends_a_key_where_there_is_one(
    context: BrowserContext, served: Deployment, tmp_path: Path, photographs: list[Path]
) -> None:
    """The last one: from its key on the door is closed."""
    key = first_key(served, "jobs:read", "jobs:write")
    page = context.new_page()
    show(page, served)
    page.get_by_role("link", name="History").click()
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()
    page.goto(served.url)
    for tab in PROGRAMS:
        assert key not in page.locator("#code-text").inner_text()
        assert "resize.convert_webp" in said_by(page, tab, tmp_path, photographs[2], PIXTOOLS_KEY=key)
