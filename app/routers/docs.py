"""The page `/docs`, which documents the API interactively. It loads nothing from other hosts."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from app.errors import NotFound
from app.routers.access import ANYBODY

router = APIRouter(include_in_schema=False, dependencies=[ANYBODY])

STATIC = Path(__file__).parent.parent / "static"
SWAGGER = STATIC / "swagger-ui"
FILES = {
    "docs.js": STATIC / "docs.js",
    **{name: SWAGGER / name for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")},
}
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; "  # Swagger UI sets style attributes
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.head("/docs")
@router.get("/docs")
async def docs() -> FileResponse:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return FileResponse(STATIC / "docs.html", headers=headers)


@router.head("/docs/{name}")
@router.get("/docs/{name}")
async def docs_file(name: str) -> FileResponse:
    if name not in FILES:
        raise NotFound
    return FileResponse(FILES[name], headers={"Cache-Control": "public, max-age=86400"})
