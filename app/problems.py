"""Answers errors with RFC 9457 `application/problem+json` and a stable `code`."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app import metrics
from app.database_errors import DATABASE_ERRORS, is_away, is_full, name_of
from app.errors import (
    DatabaseUnavailable,
    InvalidJson,
    InvalidParameter,
    PixToolsError,
    TenantLimit,
    Unauthorized,
    UnsupportedMediaType,
)
from app.services.intake.validation import escaped, explain, limit_of, value_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: titles of RFC 9110; Python's are older in some releases, and titles must not depend on the release
TITLES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
UNAVAILABLE_RETRY_AFTER = 5  # seconds
HELP = "/help/errors"  # page that lists all error codes
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MAX_REPORTED = 20  # mistakes in one answer
DATABASE_FULL = "The database has no room on its disk at the moment."


def install(app: FastAPI) -> None:
    """Have the API answer every error as a problem."""
    app.add_exception_handler(PixToolsError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _on_database_error)
    app.add_exception_handler(Exception, _on_crash)


class _ProblemResponse(JSONResponse):
    """A response that may contain any text from the client, even half of a surrogate pair."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def _problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> JSONResponse:
    title = TITLES.get(status) or HTTPStatus(status).phrase
    body = {"type": f"{HELP}#{code}", "title": title, "status": status, "detail": detail, "code": code}
    return _ProblemResponse({**body, **members}, status_code=status, headers=headers)


def _on_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PixToolsError):
        raise error
    if error.status in REFUSALS:
        _note_refusal(request, error)
    return answer(error, instance=request.url.path)


def _note_refusal(request: Request, error: PixToolsError) -> None:
    """Count requests beyond a limit, and note refused requests with a known key for the audit log."""
    if isinstance(error, TenantLimit):
        metrics.LIMIT_REFUSALS.labels(error.code).inc()
    known = error if isinstance(error, Unauthorized) else getattr(request.state, "principal", None)
    if known is not None and known.key_id and known.tenant:
        refusals = request.app.state.resources.refusals
        refusals.note(tenant=known.tenant, key_id=known.key_id, code=error.code)


def answer(error: PixToolsError, **more: Any) -> JSONResponse:
    """The response to a refused request."""
    members = dict(error.extra) | more
    if error.pointer and "errors" not in members:
        members["errors"] = [{"detail": error.message, "pointer": error.pointer}]
    members |= {name: value for name in ("limit", "value") if (value := getattr(error, name)) is not None}
    retry_after = error.retry_after or (
        UNAVAILABLE_RETRY_AFTER if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    )
    headers = error.headers | ({"Retry-After": str(retry_after)} if retry_after else {})
    code = error.code
    return _problem(error.status, code, error.message, headers=headers, **members)


def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    mistakes = error.errors()
    if mistakes[0]["type"] == "json_invalid":
        return _on_error(request, InvalidJson(f"The body is not valid JSON: {mistakes[0]['ctx']['error']}."))
    if isinstance(error.body, bytes) and mistakes[0]["loc"] == ("body",):
        return _on_error(request, UnsupportedMediaType("Send the body as application/json."))
    errors = [_mistake(mistake) for mistake in mistakes[:MAX_REPORTED]]
    return _on_error(request, InvalidParameter(errors[0]["detail"], extra={"errors": errors}))


def _mistake(mistake: dict[str, Any]) -> dict[str, Any]:
    return {"detail": explain(mistake), "pointer": _pointer(mistake["loc"]), **limit_of(mistake), **value_of(mistake)}


def _pointer(place: tuple[str | int, ...]) -> str:
    in_body = place[0] == "body"  # pointers to fields do not contain "body"
    return "/".join(["#", *(escaped(str(part)) for part in place[in_body:])])


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.BAD_REQUEST:  # how FastAPI reports a body that its parser gives up on
        return _on_error(request, InvalidJson())
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return _problem(
        status, status.name.lower(), _explained(status, error, headers), headers=headers, instance=request.url.path
    )


def _explained(status: HTTPStatus, error: HTTPException, headers: dict[str, str]) -> str:
    """Starlette's short message with additional advice."""
    if status is HTTPStatus.NOT_FOUND:
        return "There is nothing at this path; /openapi.json lists the paths."
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return f"The method is not allowed at this path; allowed: {headers['Allow']}."
    return f"{error.detail}."


def _allowed(request: Request) -> list[str]:
    """The methods of all routes at this path; Starlette reports only those of the first route."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if not is_away(error):  # a mistake of this service: repeating the request would not help
        log.error("database_error", extra={"error": name_of(error)}, exc_info=error)
        return crash()
    log.warning("database_away", extra={"error": name_of(error)})
    return _on_error(request, DatabaseUnavailable(DATABASE_FULL if is_full(error) else None))


def _on_crash(request: Request, error: Exception) -> JSONResponse:
    return crash()


def crash() -> JSONResponse:
    """The response to an unexpected error, without the traceback, which is only in the log."""
    return _problem(500, "internal_error", "Internal error; see the server log for details.")


def code_of(error: Exception) -> str:
    """The error code of the response; other libraries' errors may have an unrelated attribute `code`."""
    if isinstance(error, PixToolsError):
        return error.code
    return DatabaseUnavailable.code if is_away(error) else PixToolsError.code
