"""Every error as RFC 9457 `application/problem+json` with a stable `code`."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.database_errors import DATABASE_ERRORS, is_away, is_full, name_of
from app.errors import DatabaseUnavailable, InvalidOperations, PixToolsError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE_RETRY_AFTER = 5  # seconds
DATABASE_FULL = "The database has no room on its disk at the moment."


def install(app: FastAPI) -> None:
    """Let nothing leave the API but problems."""
    app.add_exception_handler(PixToolsError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _on_database_error)
    app.add_exception_handler(Exception, _on_crash)


def _problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> JSONResponse:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code}
    return JSONResponse({**body, **members}, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _on_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PixToolsError):
        raise error
    members = dict(error.extra)
    if error.pointer and "errors" not in members:
        members["errors"] = [{"detail": error.message, "pointer": error.pointer}]
    members |= {name: value for name in ("limit", "value") if (value := getattr(error, name)) is not None}
    retry_after = error.retry_after or (
        UNAVAILABLE_RETRY_AFTER if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    )
    headers = error.headers | ({"Retry-After": str(retry_after)} if retry_after else {})
    code = error.error_code if isinstance(error, InvalidOperations) else error.code
    return _problem(error.status, code, error.message, headers=headers, instance=request.url.path, **members)


def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [_mistake(mistake) for mistake in error.errors()]
    detail = errors[0]["detail"]
    return _problem(422, "invalid_parameter", detail, instance=request.url.path, errors=errors)


def _mistake(mistake: dict[str, Any]) -> dict[str, Any]:
    if mistake["type"] == "json_invalid":
        return {"detail": "The body is not valid JSON.", "pointer": "#"}
    return {"detail": f"{mistake['loc'][-1]}: {mistake['msg']}.", "pointer": _pointer(mistake["loc"])}


def _pointer(place: tuple[str | int, ...]) -> str:
    in_body = place[0] == "body"  # whose fields are pointed at as those of the form are
    return f"#/{'/'.join(map(str, place[in_body:]))}"


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = HTTPStatus(error.status_code).name.lower()
    headers = dict(error.headers) if error.headers else None
    return _problem(error.status_code, code, f"{error.detail}.", headers=headers, instance=request.url.path)


def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if not is_away(error):  # a mistake of this service: repeating the request would not help
        log.error("database_error", extra={"error": name_of(error)}, exc_info=error)
        return crash()
    log.warning("database_away", extra={"error": name_of(error)})
    return _on_error(request, DatabaseUnavailable(DATABASE_FULL if is_full(error) else None))


def _on_crash(request: Request, error: Exception) -> JSONResponse:
    return crash()


def stopping() -> JSONResponse:
    """The answer to a request that the server does not wait for any longer."""
    headers = {"Retry-After": str(UNAVAILABLE_RETRY_AFTER)}
    return _problem(503, Unavailable.code, "The server is stopping; repeat the request.", headers=headers)


def crash() -> JSONResponse:
    """The answer to what nobody expected; the traceback is in the log, the client learns nothing of it."""
    return _problem(500, "internal_error", "Something went wrong; the operator's log knows what.")
