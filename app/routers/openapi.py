"""The parts of the OpenAPI document that FastAPI cannot derive: the streamed upload, and additional responses."""

import copy
import json
from typing import Any

from app.formats import FORMATS
from app.models import DEFAULT_PRIORITY, PRIORITIES
from app.problems import MEDIA_TYPE
from app.routers.tree_schema import EXAMPLES as TREES
from app.routers.tree_schema import REFERENCE, TREE
from app.services.intake.keeping import MAX_EXTERNAL_ID, MAX_TAG_VALUE, MAX_TAGS, TAG_NAME
from app.services.intake.templates import REFERENCE as TEMPLATE_REFERENCE

#: example of a `data:` URL: a GIF of one pixel
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
INPUT: dict[str, Any] = {
    "description": "Where the image comes from.",
    "oneOf": [
        {
            "title": "UrlInput",
            "type": "object",
            "required": ["url"],
            "additionalProperties": False,
            "properties": {
                "url": {
                    "type": "string",
                    "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://|[Dd][Aa][Tt][Aa]:[^,]*,)",
                    "description": "http, https, or `data:` with the image itself, at most 512000 bytes.",
                },
                "headers": {
                    "type": ["object", "null"],
                    "maxProperties": 16,
                    "additionalProperties": {"type": "string", "pattern": "^([!-~]([ -~]*[!-~])?)?$"},
                    "description": "Only for the origin of the URL; never shown again.",
                },
            },
        },
        {
            "title": "StoreInput",
            "type": "object",
            "required": ["store", "key"],
            "additionalProperties": False,
            "properties": {
                "store": {"type": "string", "minLength": 1, "description": "Name of a store."},
                "key": {"type": "string", "minLength": 1, "maxLength": 1024},
            },
        },
        {
            "title": "ResultInput",
            "type": "object",
            "required": ["job", "result"],
            "additionalProperties": False,
            "properties": {
                "job": {"type": "string", "format": "uuid"},
                "result": {"type": "string", "minLength": 1, "description": "Name of an existing result."},
            },
        },
    ],
}
TEMPLATE = TEMPLATE_REFERENCE.pattern.replace("(?:", "(")
OUTPUT: dict[str, Any] = {
    "description": "A store that the results are written to as well.",
    "type": ["object", "null"],
    "required": ["store", "key"],
    "additionalProperties": False,
    "properties": {
        "store": {"type": "string", "minLength": 1, "description": "Name of a store."},
        "key": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "description": "A template with `{input.dir}`, `{input.stem}`, `{name}`, `{ext}`, `{sha256:12}`, `{date}`, "
            "`{job}`.",
            "examples": ["{input.dir}/{input.stem}-{name}.{ext}"],
        },
        "if_exists": {"enum": ["replace", "skip", "fail", None], "default": "replace"},
        "cache_control": {"type": ["string", "null"], "maxLength": 256},
    },
}
#: members of a JSON body, by name
PROCESS_MEMBERS: dict[str, Any] = {
    "input": INPUT,
    "operations": {"$ref": REFERENCE.format(model=TREE)},
    "webhook_url": {
        "type": ["string", "null"],
        "description": "Gets a POST when the job has ended: an http or https URL; empty or null: nothing does.",
        "examples": ["https://hooks.example/pixtools"],
    },
    "priority": {
        "type": ["integer", "null"],
        "minimum": PRIORITIES[0],
        "maximum": PRIORITIES[-1],
        "default": DEFAULT_PRIORITY,
        "description": "Among the jobs that wait, yours of the highest priority go first.",
    },
    "template": {
        "type": ["string", "null"],
        "pattern": f"^{TEMPLATE}$",
        "description": "Instead of `operations`: a template by its name, or by name and version.",
        "examples": ["thumbnails", "shop@2"],
    },
    "params": {
        "type": ["object", "null"],
        "description": "Values for the template's parameters.",
        "examples": [{"large": 1600}],
    },
    "tags": {
        "type": ["object", "null"],
        "maxProperties": MAX_TAGS,
        "propertyNames": {"pattern": f"^{TAG_NAME.pattern}$"},
        "additionalProperties": {"type": "string", "maxLength": MAX_TAG_VALUE},
        "description": "To find the job by.",
        "examples": [{"sku": "7"}],
    },
    "external_id": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": MAX_EXTERNAL_ID,
        "description": "Your own name for the job: a second one of this name is refused with 409.",
        "examples": ["order-1234"],
    },
    "keep_seconds": {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "From the job's end until it is removed; `expires_at` of the job says when.",
        "examples": [604_800],
    },
    "output": OUTPUT,
}


def _plan_body() -> dict[str, Any]:
    """The body of `/plan`: that of `/process`, with the option to send facts about an image instead of the image."""
    body: dict[str, Any] = copy.deepcopy(PROCESS_BODY)
    schema = body["content"]["application/json"]["schema"]
    schema["properties"]["input"]["oneOf"].append(FACTS)
    facts = {"facts": {"format": "jpeg", "width": 4000, "height": 3000, "bytes": 2_193_417}}
    example = {"input": facts, "operations": ["convert_webp"]}
    body["content"]["application/json"]["examples"] = {"facts": {"value": example}}
    return body


PROCESS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["input"],
                "additionalProperties": False,
                "properties": PROCESS_MEMBERS,
                "oneOf": [{"required": ["operations"]}, {"required": ["template"]}],
            },
            "examples": {"data": {"value": {"input": {"url": PIXEL}, "operations": ["convert_webp"]}}},
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",  # makes Swagger UI show a file chooser
                        "description": "JPEG, PNG, WebP, GIF, TIFF, AVIF or HEIC, with a file name.",
                    },
                    "operations": {
                        "type": "string",
                        "description": "The operation tree as JSON: an array of parallel branches.",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": REFERENCE.format(model=TREE)},
                        "examples": [json.dumps(tree) for tree in TREES],
                    },
                    "template": {
                        "type": "string",
                        "anyOf": [{"pattern": f"^{TEMPLATE}$"}, {"maxLength": 0}],
                        "description": "Instead of `operations`: a template by its name, or by name and version.",
                        "examples": ["thumbnails", "shop@2"],
                    },
                    "params": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"type": "object"},
                        "description": "Values for the template's parameters, as a JSON object.",
                        "examples": ['{"large": 1600}'],
                    },
                    "webhook_url": {
                        "type": "string",
                        "anyOf": [{"format": "uri"}, {"maxLength": 0}],  # HTML forms send empty fields
                        "description": "Gets a POST when the job has ended; empty: nothing does.",
                        "examples": ["https://hooks.example/pixtools"],
                    },
                    "priority": {
                        "type": "string",
                        "pattern": "^[0-9]?$",
                        "default": str(DEFAULT_PRIORITY),
                        "description": "0 to 9: among the jobs that wait, yours of the highest priority go first.",
                    },
                    "tags": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"type": "object", "additionalProperties": {"type": "string"}},
                        "description": f"At most {MAX_TAGS} names with texts, as a JSON object, to find the job by.",
                        "examples": ['{"sku": "7"}'],
                    },
                    "external_id": {
                        "type": "string",
                        "maxLength": MAX_EXTERNAL_ID,
                        "description": "Your own name for the job: a second one of this name is refused with 409.",
                        "examples": ["order-1234"],
                    },
                    "keep_seconds": {
                        "type": "string",
                        "pattern": "^[0-9]*$",
                        "description": "From the job's end until it is removed; `expires_at` of the job says when.",
                        "examples": ["604800"],
                    },
                    "output": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": OUTPUT,
                        "description": "A store that the results are written to as well, as JSON; empty: none.",
                    },
                },
            },
            "encoding": {
                "file": {
                    "contentType": "image/jpeg, image/png, image/webp, image/gif, image/tiff, image/avif, image/heic"
                },
                "operations": {"contentType": "application/json, text/plain"},
                "webhook_url": {"contentType": "text/plain"},
                **{
                    name: {"contentType": "text/plain"}
                    for name in ("priority", "template", "external_id", "keep_seconds")
                },
                **{name: {"contentType": "application/json, text/plain"} for name in ("params", "tags", "output")},
            },
        },
    },
}

#: facts about an image that is not sent
FACTS: dict[str, Any] = {
    "title": "FactsInput",
    "type": "object",
    "required": ["facts"],
    "additionalProperties": False,
    "properties": {
        "facts": {
            "type": "object",
            "required": ["format", "width", "height", "bytes"],
            "additionalProperties": False,
            "properties": {
                "format": {"enum": [format_.name for format_ in FORMATS.values() if format_.is_input]},
                **{name: {"type": "integer", "minimum": 1} for name in ("width", "height", "bytes")},
            },
        },
    },
}
PLAN_BODY: dict[str, Any] = _plan_body()


TITLES = {
    400: "The request is malformed.",
    401: "The request needs an API key, or its key is not valid; `code` says which.",
    403: "The request is not allowed: a scope that the key lacks, a link that is invalid or has expired, or a page of "
    "another origin.",
    404: "There is no such object.",
    408: "The client sent nothing for too long.",
    409: "The state does not allow this.",
    410: "The job has expired; `expired_at` says when.",
    413: "The body, or a part of it, is larger than the limit.",
    414: "The path and query are too long.",
    415: "The file is not an image in a supported format, or the body has the wrong media type.",
    416: "The range begins after the end.",
    421: "The server does not answer to this `Host`.",
    422: "The input is invalid; `errors[].pointer` says where.",
    429: "A limit of the tenant is reached; `code` and `limit_name` say which, `Retry-After` when to try again.",
    431: "The headers are too large or too many.",
    503: "A part of the service is unavailable; try again after `Retry-After`.",
}

RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
RATE = {
    "RateLimit-Policy": {"description": "Requests (`q`) in a number of seconds (`w`).", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "Requests left (`r`), and seconds until all are available again (`t`).",
        "schema": {"type": "string"},
    },
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
CHANGES = (403,)  # added for methods other than GET
WITH_KEY = (401, 403, 429)  # added for routes that need a key
JSON_BODY = (400, 408, 413, 415)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these problems, in addition to those of every route."""
    return {status: problem(status) for status in statuses}


def problem(status: int) -> dict[str, Any]:
    """The entry of `responses` for a problem with this status."""
    content: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
    if status in EXAMPLES:
        content["example"] = EXAMPLES[status]
    described = {"description": TITLES[status], "content": {MEDIA_TYPE: content}}
    return described | ({"headers": HEADERS[status]} if status in HEADERS else {})


def _links(parameter: str, *operations: str) -> dict[str, Any]:
    """OpenAPI links from a response with an `id` to operations on that object."""
    return {name: {"operationId": name, "parameters": {parameter: "$response.body#/id"}} for name in operations}


JOB_LINKS = _links(
    "job_id", "get_job", "cancel_job", "retry_job", "delete_job", "get_archive", "watch_job", "explain_job"
)
ENDPOINT_LINKS = _links(
    "endpoint_id",
    *("get_endpoint", "change_endpoint", "delete_endpoint", "rotate_secret"),
    *("test_endpoint", "replay_events", "list_replays"),
)
DELIVERY_LINKS = _links("delivery_id", "get_delivery", "replay_delivery")
JOB: dict[str, Any] = {"application/json": {"schema": {"$ref": REFERENCE.format(model="JobView")}}}
LOCATION = {"Location": {"description": "Address of the object.", "schema": {"type": "string"}}}
APPLIED = {"Preference-Applied": {"description": "`wait=N`, if the request waited.", "schema": {"type": "string"}}}
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
    **problems(400, 404, 408, 409, 413, 415),
}
JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job.", "headers": RETRY_AFTER, "links": JOB_LINKS},
    **problems(404, 410),
}

ENDPOINT_RESPONSES: dict[int | str, dict[str, Any]] = {
    201: {"description": "The endpoint and its secret.", "headers": LOCATION, "links": ENDPOINT_LINKS},
}
STORE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Saved; it replaces a store of this name."},
    201: {
        "description": "Saved.",
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="StoreView")}}},
        "headers": LOCATION,
    },
    **problems(404, 422),
}
DELIVERY_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "The delivery.", "headers": LOCATION, "links": DELIVERY_LINKS},
    **problems(404, 409),
}

TEMPLATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "It is the latest version already.", "headers": LOCATION},
    201: {
        "description": "A new version.",
        "headers": LOCATION,
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="TemplateView")}}},
    },
    **problems(409),
}

ASSET_BODY: dict[str, Any] = {
    "required": True,
    "description": "The file: JPEG, PNG, WebP, GIF, TIFF, AVIF, HEIC, TrueType or OpenType, whatever its media type.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
ASSET_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The name means this file now.", "headers": LOCATION},
    201: {
        "description": "A new name.",
        "headers": LOCATION,
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="AssetView")}}},
    },
    **problems(400, 408, 413, 415),
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
ARCHIVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The ZIP.", "content": {"application/zip": BINARY}},
    **problems(404, 409, 410),
}
#: an event of a stream, as clients parse it
STREAM_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["job", "log"]},
        "id": {"type": "string", "description": "Of `log`: send the last one as `Last-Event-ID`."},
        "data": {
            "type": "string",
            "description": "JSON: of `job` the job, of `log` a stored event.",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [{"$ref": REFERENCE.format(model=model)} for model in ("JobView", "EventView")]},
        },
    },
}
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events until the client or the server closes the stream; a comment after 15 s of silence.",
        "content": {
            "text/event-stream": {
                "schema": STREAM_EVENT,
                "example": 'event: log\nid: msg_019ac0e2f4b07f3a\ndata: {"type": "job.completed", …}\n\n',
            }
        },
    },
    **problems(400, 404, 410, 429),
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
    **problems(403, 404, 410, 416),
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
