"""What FastAPI cannot derive: the streamed upload, and the problems of each route."""

from typing import Any

from app.problems import MEDIA_TYPE
from app.schemas import Problem

TREE_EXAMPLE = (
    '["convert_avif", {"op": "resize", "width": 1280, "then": '
    '["convert_webp", {"op": "convert_jpeg", "quality": 85, "as": "hero"}]}]'
)

PROCESS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "operations"],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",  # what the docs page needs to offer a file chooser
                        "description": "JPEG, PNG, WebP, GIF, TIFF or AVIF.",
                    },
                    "operations": {
                        "type": "string",
                        "description": "The operation tree as JSON: an array of parallel branches.",
                        "example": TREE_EXAMPLE,
                    },
                    "webhook_url": {
                        "type": "string",
                        "format": "uri",
                        "description": "Gets a POST when the job has ended.",
                    },
                },
            },
            "encoding": {"operations": {"contentType": "application/json"}},
        }
    },
}

TITLES = {
    400: "The request is malformed.",
    403: "The link is invalid or has expired.",
    404: "There is no such thing.",
    409: "The state does not allow this.",
    413: "The upload is larger than the limit.",
    415: "Not an image in a supported format.",
    416: "The range begins behind the end.",
    422: "The input is invalid; `errors[].pointer` says where.",
    503: "A part of the service is unavailable; try again after `Retry-After`.",
}

EXAMPLES = {
    422: {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "resize: Input should be less than or equal to 16384.",
        "code": "invalid_parameter",
        "instance": "/process",
        "errors": [
            {
                "detail": "resize: Input should be less than or equal to 16384.",
                "pointer": "#/operations/0/width",
                "code": "invalid_parameter",
                "limit": 16384,
                "value": 20000,
            }
        ],
    },
    413: {
        "type": "about:blank",
        "title": "Content Too Large",
        "status": 413,
        "detail": "The upload is larger than 50000000 bytes.",
        "code": "upload_too_large",
        "instance": "/process",
        "errors": [{"detail": "The upload is larger than 50000000 bytes.", "pointer": "#/file"}],
        "limit": 50000000,
        "value": 61000000,
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problems."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status in EXAMPLES:
        content["example"] = EXAMPLES[status]
    return {"description": TITLES[status], "content": {MEDIA_TYPE: content}, "model": Problem}


PROCESS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "With `Prefer: wait`: the job has ended."},
    202: {
        "description": "Accepted.",
        "headers": {
            "Location": {"description": "Of the job.", "schema": {"type": "string"}},
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
            "Idempotent-Replayed": {"description": "`true` on a repeat.", "schema": {"type": "string"}},
        },
    },
    **problems(400, 409, 413, 415, 422, 503),
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
ARCHIVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The ZIP.", "content": {"application/zip": BINARY}},
    **problems(404, 409),
}
DOWNLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The image.", "content": {"image/*": BINARY}},
    206: {"description": "The requested range."},
    304: {"description": "`If-None-Match` names it."},
    **problems(403, 404, 416),
}
