"""Renders the Markdown files of docs/ as HTML. Raw HTML in a file is shown as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.manual.generated import configuration_page, errors_page

FOLDER = Path(__file__).parent.parent.parent / "docs"
INDEX = "README"
GENERATED = {"errors": errors_page, "configuration": configuration_page}
#: groups of the menu, in order; a file that is not listed goes into the last one
GROUPS = {
    "Use": [
        *("quick-start", "concepts", "page", "recipes", "operations", "files", "sources", "templates", "assets"),
        *("plan", "keeping", "live-events", "webhooks", "client-python", "client-typescript", "command-line", "limits"),
        *("errors", "comparison", "faq"),
    ],
    "Choose": ["quality", "performance"],
    "Run": [
        "configuration",
        "deployment",
        "reverse-proxy",
        "security",
        "secrets",
        "backup",
        "upgrade",
        "accounts",
        "observability",
        "scaling",
        "reliability",
    ],
}
REST = "More"
PICTURES = {".webp": "image/webp", ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Rendered:
    """A rendered page."""

    title: str
    body: str
    #: anchor and text of its sections
    sections: Sequence[tuple[str, str]]


def names() -> list[str]:
    """The names of all pages, as used in their addresses."""
    files = [path.relative_to(FOLDER).with_suffix("").as_posix() for path in sorted(FOLDER.rglob("*.md"))]
    return [*(name for name in files if name not in GENERATED), *GENERATED]


@cache
def source(name: str) -> str | None:
    """The Markdown of a page; None: there is no such page."""
    if name not in names():
        return None
    return GENERATED[name]() if name in GENERATED else (FOLDER / f"{name}.md").read_text()


@cache
def picture(name: str) -> tuple[bytes, str] | None:
    """Content and media type of a picture in docs/images; None: there is no such picture."""
    there = {path.name: path for path in (FOLDER / "images").glob("*") if path.suffix in PICTURES}
    path = there.get(name)
    return (path.read_bytes(), PICTURES[path.suffix]) if path else None


@cache
def render(name: str) -> Rendered | None:
    """A page as HTML; None: there is no such page."""
    text = source(name)
    if text is None:
        return None
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = markdown.parse(text)
    headings = list(_anchored(tokens))
    for token in tokens:
        _relink(token, name)
        _align(token)
    body = str(markdown.renderer.render(tokens, markdown.options, {}))
    title = next((text for level, _, text in headings if level == "h1"), name)
    return Rendered(title, _in_frames(body), [(anchor, text) for level, anchor, text in headings if level == "h2"])


def _anchored(tokens: list[Token]) -> Any:
    """Give every heading the same anchor as GitHub does; yields level, anchor and text of each."""
    taken: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or [])
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
        number = taken.get(anchor, 0)
        taken[anchor] = number + 1
        token.attrSet("id", f"{anchor}-{number}" if number else anchor)
        yield token.tag, token.attrs["id"], text


def _relink(token: Token, name: str) -> None:
    """Turn links between files into links between pages; a link to any other file becomes plain text."""
    for child in token.children or []:
        if child.type == "image":
            child.attrSet("src", f"/help/images/{PurePosixPath(str(child.attrs['src'])).name}")
            child.attrSet("loading", "lazy")
        if child.type == "link_open":
            target = _target(str(child.attrs["href"]), name)
            if target is None:
                child.tag = "span"
                child.attrs = {"class": "file"}
            else:
                child.attrSet("href", target)
    _match_ends(token)


def _align(token: Token) -> None:
    """Align columns by a class, since the page's content security policy forbids inline styles."""
    if token.type in {"th_open", "td_open"} and (style := str(token.attrs.pop("style", ""))):
        token.attrSet("class", style.rpartition(":")[2])


def _match_ends(token: Token) -> None:
    """Give the end of every link the same tag as its start."""
    tags: list[str] = []
    for child in token.children or []:
        if child.type == "link_open":
            tags.append(child.tag)
        elif child.type == "link_close":
            child.tag = tags.pop()


def _target(href: str, name: str) -> str | None:
    url = urlsplit(href)
    if url.scheme or href.startswith(("/", "#")):
        return href
    path = normpath((PurePosixPath(name).parent / url.path).as_posix())
    page = path.removesuffix(".md")
    if page not in names():
        return None
    return address(page) + (f"#{url.fragment}" if url.fragment else "")


def address(name: str) -> str:
    """The address of a page."""
    return "/help" if name == INDEX else f"/help/{name}"


def _in_frames(body: str) -> str:
    """Wrap tables in frames, so that a wide table scrolls by itself instead of the whole page."""
    return body.replace("<table>", '<div class="frame" tabindex="0" role="region" aria-label="Table"><table>').replace(
        "</table>", "</table></div>"
    )


def menu() -> dict[str, list[str]]:
    """The names of pages by group of the menu."""
    there = [name for name in names() if "/" not in name and name != INDEX]
    grouped = {group: [name for name in listed if name in there] for group, listed in GROUPS.items()}
    known = {name for listed in grouped.values() for name in listed}
    return grouped | {REST: [name for name in there if name not in known]}


def label(name: str) -> str:
    """The name of a page in the menu: a word or two."""
    return {"faq": "FAQ", "errors": "Error codes"}.get(name, name.replace("-", " ").capitalize())
