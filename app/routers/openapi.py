"""What FastAPI cannot derive: the streamed upload, and what else each route answers."""

import json
from typing import Any

from app.formats import FORMATS
from app.models import DEFAULT_PRIORITY
from app.problems import MEDIA_TYPE
from app.routers.tree_schema import EXAMPLES as TREES
from app.routers.tree_schema import REFERENCE, TREE

PROCESS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "operations"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",  # what the docs page needs to offer a file chooser
                        "description": "JPEG, PNG, WebP, GIF, TIFF, AVIF or HEIC, with a file name.",
                    },
                    "operations": {
                        "type": "string",
                        "description": "The operation tree as JSON: an array of parallel branches.",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": REFERENCE.format(model=TREE)},
                        "examples": [json.dumps(tree) for tree in TREES],
                    },
                    "webhook_url": {
                        "type": "string",
                        "anyOf": [{"format": "uri"}, {"maxLength": 0}],  # forms of web pages send empty fields
                        "description": "Gets a POST when the job has ended; empty: nothing does.",
                        "examples": ["https://hooks.example/pixtools"],
                    },
                    "priority": {
                        "type": "string",
                        "pattern": "^[0-9]?$",
                        "default": str(DEFAULT_PRIORITY),
                        "description": "0 to 9: among the jobs that wait, yours of the highest priority go first.",
                    },
                },
            },
            "encoding": {
                "file": {
                    "contentType": "image/jpeg, image/png, image/webp, image/gif, image/tiff, image/avif, image/heic"
                },
                "operations": {"contentType": "application/json, text/plain"},
                "webhook_url": {"contentType": "text/plain"},
                "priority": {"contentType": "text/plain"},
            },
        }
    },
}

TITLES = {
    400: "The request is malformed.",
    401: "The request needs an API key, or has one that opens nothing; `code` says which.",
    403: "The request is not allowed: a scope that the key lacks, a link that is invalid or has expired, or a page of "
    "another origin.",
    404: "There is no such thing.",
    408: "The client sent nothing for too long.",
    409: "The state does not allow this.",
    413: "The body, or a part of it, is larger than the limit.",
    414: "The path and query are too long.",
    415: "Not an image in a supported format, or not the media type that is read here.",
    416: "The range begins behind the end.",
    421: "The server does not answer to this `Host`.",
    422: "The input is invalid; `errors[].pointer` says where.",
    429: "A limit of the tenant is reached; `code` and `limit_name` say which, `Retry-After` when to come again.",
    431: "The headers are too large or too many.",
    503: "A part of the service is unavailable; try again after `Retry-After`.",
}

RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
RATE = {
    "RateLimit-Policy": {"description": "Requests (`q`) in so many seconds (`w`).", "schema": {"type": "string"}},
    "RateLimit": {"description": "Requests left (`r`), all again in `t` seconds.", "schema": {"type": "string"}},
}
HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    429: RETRY_AFTER | RATE,
    503: RETRY_AFTER,
    416: {"Content-Range": {"description": "The size, as `bytes */size`.", "schema": {"type": "string"}}},
}

EXAMPLES = {
    422: {
        "type": "/help/errors#invalid_parameter",
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
        "type": "/help/errors#upload_too_large",
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


EVERYWHERE = (400, 414, 421, 422, 431, 503)  # 400: an API key in the query; 422: unknown query parameters
CHANGES = (403,)  # by another method than GET
WITH_KEY = (401, 403, 429)  # where a key is asked for
JSON_BODY = (400, 408, 413, 415)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problems, beside those that every route answers with."""
    return {status: problem(status) for status in statuses}


def problem(status: int) -> dict[str, Any]:
    """One of the `responses`."""
    content: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
    if status in EXAMPLES:
        content["example"] = EXAMPLES[status]
    described = {"description": TITLES[status], "content": {MEDIA_TYPE: content}}
    return described | ({"headers": HEADERS[status]} if status in HEADERS else {})


def _links(parameter: str, *operations: str) -> dict[str, Any]:
    """From an answer that has an `id` to requests about it."""
    return {name: {"operationId": name, "parameters": {parameter: "$response.body#/id"}} for name in operations}


JOB_LINKS = _links("job_id", "get_job", "cancel_job", "retry_job", "delete_job", "get_archive")
ENDPOINT_LINKS = _links(
    "endpoint_id",
    *("get_endpoint", "change_endpoint", "delete_endpoint", "rotate_secret"),
    *("test_endpoint", "replay_events", "list_replays"),
)
DELIVERY_LINKS = _links("delivery_id", "get_delivery", "replay_delivery")
JOB: dict[str, Any] = {"application/json": {"schema": {"$ref": REFERENCE.format(model="JobView")}}}
LOCATION = {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}
APPLIED = {"Preference-Applied": {"description": "`wait=N`, if it was asked for.", "schema": {"type": "string"}}}
REPLAYED = {"Idempotent-Replayed": {"description": "`true` on a repeat.", "schema": {"const": "true"}}}

PROCESS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `Prefer: wait`: the job has ended; `status` says how.",
        "content": JOB,
        "headers": LOCATION | APPLIED | REPLAYED,
        "links": JOB_LINKS,
    },
    202: {
        "description": "Accepted.",
        "headers": LOCATION | RETRY_AFTER | APPLIED | REPLAYED,
        "links": JOB_LINKS,
    },
    **problems(400, 408, 409, 413, 415),
}
JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job.", "headers": RETRY_AFTER, "links": JOB_LINKS},
    **problems(404),
}

ENDPOINT_RESPONSES: dict[int | str, dict[str, Any]] = {
    201: {"description": "The endpoint and its secret.", "headers": LOCATION, "links": ENDPOINT_LINKS},
}
DELIVERY_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "The delivery.", "headers": LOCATION, "links": DELIVERY_LINKS},
    **problems(404, 409),
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
ARCHIVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The ZIP.", "content": {"application/zip": BINARY}},
    **problems(404, 409),
}
RESULT = {format_.media_type: BINARY for format_ in FORMATS.values() if format_.is_result}
DOWNLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The result.", "content": RESULT},
    206: {"description": "The requested range.", "content": RESULT},
    304: {"description": "`If-None-Match` names it."},
    307: {
        "description": "With a key, where S3 serves the object: its link is in `Location`.",
        "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
    },
    **problems(403, 404, 416),
}
AUDIT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line, oldest first.",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    },
}
METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metrics, in the format that `Accept` prefers.",
        "content": {name: {"schema": {"type": "string"}} for name in ("text/plain", "application/openmetrics-text")},
    },
}
