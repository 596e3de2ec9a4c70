"""The web page: `/`, `/admin`, and their files. The pages hold no data: they load it through the API."""

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from app.errors import NotFound, StoreUnavailable
from app.routers.access import ANYBODY
from app.routers.dependencies import CurrentResources
from app.wiring import Resources

router = APIRouter(include_in_schema=False, dependencies=[ANYBODY])

FOLDER = Path(__file__).parent.parent / "static" / "page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob:{storage}; "
    "connect-src 'self'{storage}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
PAGES = {"/": "index.html", "/admin": "admin.html"}
SIGNED = "page"  # an arbitrary key: only the origin of its link is used


@cache
def _files() -> dict[str, Path]:
    """The files of the pages by name; names are unique."""
    return {path.name: path for path in FOLDER.rglob("*") if path.suffix in TYPES}


@cache
def _read(path: Path) -> tuple[bytes, str]:
    """The content and the ETag of a file. The files are few and small, so they stay in memory."""
    content = path.read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@router.head("/")
@router.get("/")
@router.head("/admin")
@router.get("/admin")
async def show_page(request: Request, resources: CurrentResources) -> Response:
    policy = POLICY.format(storage=await _storage_origin(request.app.state, resources))
    return _answer(request, _files()[PAGES[request.url.path]], {"Content-Security-Policy": policy})


@router.head("/page/{name}")
@router.get("/page/{name}")
async def page_file(request: Request, name: str) -> Response:
    path = _files().get(name)
    if path is None or path.suffix == ".html":
        raise NotFound
    return _answer(request, path, {})


def _answer(request: Request, path: Path, headers: dict[str, str]) -> Response:
    content, etag = _read(path)
    headers |= {"ETag": etag, "Cache-Control": "no-cache"}  # clients revalidate, so that an upgrade shows at once
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=TYPES[path.suffix])


async def _storage_origin(state: Any, resources: Resources) -> str:
    """The origin of downloads, for the content security policy; empty if this server provides them."""
    known: str | None = getattr(state, "storage_origin", None)
    if known is None:
        known = "" if resources.storage.folder else await _origin_of_links(resources)
        state.storage_origin = known
    return known and f" {known}"


async def _origin_of_links(resources: Resources) -> str:
    try:
        # runs in a thread, because looking up credentials may use the network
        url = urlsplit(await asyncio.to_thread(resources.presigned, SIGNED))
    except StoreUnavailable:
        return ""
    return f"{url.scheme}://{url.netloc}"
