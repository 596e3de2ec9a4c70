"""Downloads of results. Files in a local folder are served here, objects in a bucket by its provider."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import Field

from app.database import Database
from app.errors import InvalidDownloadLink, RangeNotSatisfiable, ResultNotFound
from app.models import Result
from app.routers.access import KEY_OR_LINK, OwnOrLinked
from app.routers.dependencies import CurrentResources, JobId, WholeNumber
from app.routers.openapi import DOWNLOAD_RESPONSES
from app.services import jobs
from app.services.storage.filenames import content_disposition
from app.wiring import Resources

router = APIRouter(tags=["jobs"])

LAST_SECOND = 253_402_300_799  # Unix time of the last second of the year 9999
RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.IGNORECASE)


@router.head(
    "/jobs/{job_id}/results/{name}",
    dependencies=[KEY_OR_LINK],
    include_in_schema=False,
    response_class=FileResponse,
)
@router.get(
    "/jobs/{job_id}/results/{name}",
    dependencies=[KEY_OR_LINK],
    summary="Download a result by its signed link, or with a key",
    response_class=FileResponse,
    responses=DOWNLOAD_RESPONSES,
    openapi_extra={"security": [{}]},  # in addition to the key: a signed link needs none
)
async def download_result(
    request: Request,
    job_id: JobId,
    name: str,
    resources: CurrentResources,
    rows: OwnOrLinked,
    expires: Annotated[
        int | None, Field(ge=0, le=LAST_SECOND), WholeNumber, Query(description="From the link.")
    ] = None,
    signature: Annotated[str | None, Query(description="From the link.", max_length=128)] = None,
) -> Response:
    """Links are in the job's `results[].url`. A single range and `If-None-Match` are supported. With a key
    instead of a link the answer may be a redirect to the object storage."""
    if isinstance(rows, Database):
        _check_link(resources, str(job_id), name, expires, signature)
    result = await rows.read(jobs.result, job_id, name)
    folder = resources.storage.folder
    if folder is None:
        return _elsewhere(request, result, resources)
    path = folder / result.key
    if not path.is_file():
        raise ResultNotFound("The result's file is missing.")
    headers = _headers(result)
    if _has(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    _settle_range(request, result.bytes)
    return FileResponse(path, media_type=result.content_type, headers=headers)


def _check_link(resources: Resources, job_id: str, name: str, expires: int | None, signature: str | None) -> None:
    for parameter, value in (("expires", expires), ("signature", signature)):
        if value is None:
            raise InvalidDownloadLink(f"The link lacks `{parameter}`; fetch the job again for a fresh one.")
    if resources.storage.folder is None:
        raise InvalidDownloadLink
    resources.api_links.check(job_id, name, expires or 0, signature or "")


def _headers(result: Result) -> dict[str, str]:
    return {
        "Content-Disposition": content_disposition(result.filename),
        "ETag": f'"{result.sha256}"',
        "Cache-Control": "private, no-cache",  # only clients may cache it, and must revalidate
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",  # browsers style images
    }


def _elsewhere(request: Request, result: Result, resources: Resources) -> Response:
    """Redirect to the object storage. HEAD is answered here, because presigned links are valid only for GET."""
    if request.method == "HEAD":
        headers = {**_headers(result), "Content-Length": str(result.bytes), "Content-Type": result.content_type}
        return Response(headers=headers)
    return RedirectResponse(resources.presigned(result.key), status_code=307, headers={"Cache-Control": "no-store"})


def _has(if_none_match: str | None, etag: str) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in known or known == ["*"]


def _settle_range(request: Request, size: int) -> None:
    """Drop a `Range` header that may be ignored (RFC 9110, 14.2): a malformed one, other units, or several ranges.

    Raises:
        RangeNotSatisfiable: the range starts after the end of the file, or is empty.
    """
    asked = RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or (asked[2] and int(asked[2]) < int(asked[1])):
        request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
    elif (asked[1] and int(asked[1]) >= size) or (asked[3] and int(asked[3]) == 0):
        raise RangeNotSatisfiable(limit=size, value=asked[0], headers={"Content-Range": f"bytes */{size}"})
