"""The documentation over HTTP: `/help`, and `/llms.txt`, its list for language models."""

import asyncio
from html import escape
from pathlib import Path
from string import Template

from fastapi import APIRouter, Response

from app.errors import NotFound
from app.manual import pages
from app.routers.access import ANYBODY
from app.routers.page import POLICY

router = APIRouter(include_in_schema=False, dependencies=[ANYBODY])

FRAME = Path(__file__).parent.parent / "static" / "page" / "help.html"
MARKDOWN = ".md"
MOST_SECTIONS = 20  # the menu lists the sections of pages with at most this many
HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY.format(storage="")}
LLMS_HEAD = """# PixTools

> Self-hosted, asynchronous image processing: `POST /process` takes an image and a tree of operations and answers with a
> job; its results come by polling, by `Prefer: wait` or by webhook. The API is described in /openapi.json, the
> operations with their parameters in /operations.
"""


@router.head("/help")
@router.get("/help")
async def show_index() -> Response:
    return await asyncio.to_thread(_page, pages.INDEX)  # the first call reads and renders all pages


@router.head("/help/{path:path}")
@router.get("/help/{path:path}")
async def show_help(path: str) -> Response:
    """A page, its Markdown, or a picture."""
    if path.startswith("images/"):
        return _picture(path.removeprefix("images/"))
    if path.endswith(MARKDOWN):
        return _markdown(path.removesuffix(MARKDOWN))
    return await asyncio.to_thread(_page, path)


def _picture(name: str) -> Response:
    found = pages.picture(name)
    if found is None:
        raise NotFound
    content, media_type = found
    policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # SVG drawings contain styles
    return Response(content, media_type=media_type, headers={**HEADERS, "Content-Security-Policy": policy})


def _markdown(name: str) -> Response:
    text = pages.source(name)
    if text is None:
        raise NotFound
    return Response(text, media_type="text/markdown", headers=HEADERS)


def _page(name: str) -> Response:
    rendered = pages.render(name)
    if rendered is None:
        raise NotFound
    frame = Template(FRAME.read_text())
    text = frame.substitute(title=escape(rendered.title), menu=_menu(name, rendered), body=rendered.body)
    return Response(text, media_type="text/html", headers=HEADERS)


def _menu(current: str, rendered: pages.Rendered) -> str:
    groups = "".join(
        f"<li><h2>{escape(group)}</h2><ul>{''.join(_entry(name, current, rendered) for name in names)}</ul></li>"
        for group, names in pages.menu().items()
        if names
    )
    return f"<ul>{_entry(pages.INDEX, current, rendered)}{groups}</ul>"


def _entry(name: str, current: str, rendered: pages.Rendered) -> str:
    title = "Start" if name == pages.INDEX else pages.label(name)
    here = name == current
    link = f'<a href="{pages.address(name)}"{" aria-current=page" if here else ""}>{escape(title)}</a>'
    is_long = len(rendered.sections) > MOST_SECTIONS
    sections = (
        ""
        if not here or is_long
        else "".join(f'<li><a href="#{escape(anchor)}">{escape(text)}</a></li>' for anchor, text in rendered.sections)
    )
    return f"<li>{link}{f'<ul class=sections>{sections}</ul>' if sections else ''}</li>"


@router.head("/llms.txt")
@router.get("/llms.txt")
async def show_llms() -> Response:
    listed = [
        f"\n## {group}\n\n" + "".join(f"- [{pages.label(name)}](/help/{name}.md)\n" for name in names)
        for group, names in pages.menu().items()
        if names
    ]
    return Response(LLMS_HEAD + "".join(listed), media_type="text/plain", headers=HEADERS)
