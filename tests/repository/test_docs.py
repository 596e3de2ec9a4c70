"""Documentation: every page is in the index, every link leads somewhere, every picture is shown."""

import re

import pytest

from app.manual.operation_tables import HEAD, PAGE, written
from tests.support.deployment import ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *DOCS.rglob("*.md")]


def test_every_page_is_in_the_index() -> None:
    linked = {(DOCS / link).resolve() for link in LINK.findall((DOCS / "README.md").read_text())}
    pages = set(DOCS.glob("*.md")) - {DOCS / "README.md"}
    assert pages <= linked


def test_every_link_leads_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in LINK.findall(page.read_text())]
    assert len(links) > 50
    assert [(str(page), link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_picture_is_in_its_folder_and_shown() -> None:
    pictures = {path for path in DOCS.rglob("*") if path.suffix in {".svg", ".webp", ".png"}}
    assert {path.parent for path in pictures} == {DOCS / "images"}
    shown = {(page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text())}
    assert pictures <= shown


def test_the_table_of_operations_is_what_the_registry_says() -> None:
    """`make docs` writes it."""
    assert PAGE.read_text() == written(PAGE.read_text())


def test_a_page_without_the_table_or_with_two_is_refused() -> None:
    for page in ("# Operations\n", "\n".join([*HEAD, "", *HEAD, ""])):
        with pytest.raises(ValueError, match="it needs one"):
            written(page)
