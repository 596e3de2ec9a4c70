"""The request of a recipe, as the page writes it in each language: run as it stands."""

import json
import os
import subprocess
from pathlib import Path

from playwright.sync_api import Page

from tests.page.chromium import show
from tests.page.conftest import Closed
from tests.page.test_workbench import add_operation
from tests.support.preloaded import preloaded

PROGRAMS = {"curl": "request.sh", "Python": "request.py", "TypeScript": "request.mjs"}


def programs(page: Page, folder: Path, photograph: Path) -> dict[str, str]:
    """The texts of a recipe by their languages, in the photograph's folder."""
    page.get_by_role("button", name="Clear").first.click()
    add_operation(page, "Add an operation", "resize")
    page.get_by_label("Width", exact=True).fill("64")
    add_operation(page, "Continue after resize", "webp")
    page.set_input_files("#files", photograph)
    (folder / photograph.name).write_bytes(photograph.read_bytes())
    texts = {}
    for language, name in PROGRAMS.items():
        page.get_by_role("tab", name=language).click()
        texts[language] = page.locator("#code-text").inner_text()
        (folder / name).write_text(texts[language])
    return texts


def assert_each_runs(folder: Path, texts: dict[str, str], **variables: str) -> None:
    """Each program says what came out."""
    own = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **variables}
    for language, program in (("curl", "bash"), ("TypeScript", "node")):
        command = [program, PROGRAMS[language]]
        ran = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=90)
        assert ran.returncode == 0, ran.stderr
        assert "resize.convert_webp" in ran.stdout
        if language == "curl":
            assert json.loads(ran.stdout)["results"][0]["width"] == 64
    alike = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOOLS_")}
    python = preloaded(["app"], alike).run(["-c", texts["Python"]], {**alike, **own}, 90, folder=folder)
    assert python.returncode == 0, python.stderr
    assert "resize.convert_webp" in python.stdout


def test_each_text_is_a_program(page: Page, tmp_path: Path, photographs: list[Path]) -> None:
    assert_each_runs(tmp_path, programs(page, tmp_path, photographs[2]))


def test_each_text_sends_a_key_where_there_is_one(
    tab: Page, closed: Closed, tmp_path: Path, photographs: list[Path]
) -> None:
    show(tab, closed.served)
    tab.get_by_role("button", name="API key").click()
    tab.get_by_label("Key", exact=True).fill(closed.of_client)
    tab.get_by_role("button", name="Use this key").click()
    texts = programs(tab, tmp_path, photographs[2])
    assert not [name for name, text in texts.items() if closed.of_client in text]
    assert_each_runs(tmp_path, texts, PIXTOOLS_KEY=closed.of_client)
