"""Refuses requests before they reach a route: by host, origin or target. Plain ASGI."""

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app import problems
from app.config import Settings
from app.errors import (
    ForeignOrigin,
    HostRefused,
    InvalidRequest,
    KeyInQuery,
    NotFound,
    OwnWebhook,
    PixToolsError,
    TargetTooLong,
)
from app.services.access.door import is_operators_port
from app.services.webhook import DELIVERY_HEADER

HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
MAX_NAMED = 64  # characters of a refused value in the error
ANY_HOST = ("/health", "/metrics")  # probes and scrapers name the IP address as host
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OWN_SITE = frozenset({"same-origin", "none"})  # sent by a page of this server, or typed by the user


OPERATORS_PATHS = ("/health", "/metrics")
#: an API key, anywhere in a query
KEY = re.compile(rb"pxt_[a-z0-9]{12}_[A-Za-z0-9]{20}")
TOKEN_PARAMETER = re.compile(rb"(?:^|&)access_token=")  # where RFC 6750 allows one, and advises against it


class AdmissionMiddleware:
    """Refuses requests by their target and headers, before anything else is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check(scope, scope["app"].state.resources.settings)
            except PixToolsError as error:
                await problems.answer(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check(scope: Scope, settings: Settings) -> None:
    """Check the target, the Host and the origin of a request.

    Raises:
        PixToolsError: the request is refused.
    """
    headers = Headers(scope=scope)
    if is_operators_port(scope, settings.metrics_port) and not scope["path"].startswith(OPERATORS_PATHS):
        raise NotFound("This port has /health and /metrics only.")
    _check_target(scope, settings.max_target_bytes)
    _check_host(headers.getlist("host"), None if scope["path"].startswith(ANY_HOST) else settings.hosts)
    if scope["method"] in SAFE:
        return
    _check_origin(headers, settings.public_url)
    if DELIVERY_HEADER in headers:
        raise OwnWebhook


def _check_target(scope: Scope, limit: int) -> None:
    length = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    if length > limit:
        detail = f"Path and query of the request have {length} bytes, the limit is {limit}."
        raise TargetTooLong(detail, limit=limit, value=length)
    if KEY.search(scope["query_string"]) or TOKEN_PARAMETER.search(scope["query_string"]):
        raise KeyInQuery


def _check_host(given: list[str], known: frozenset[str] | None) -> None:
    if len(given) > 1:
        raise InvalidRequest("The request has several Host headers.")
    host = given[0] if given else ""
    if not host:
        return  # an HTTP/1.0 request; no browser sends one
    parts = HOST.fullmatch(host)
    if parts is None:
        raise InvalidRequest("The Host header does not hold a host name or address.", value=host[:MAX_NAMED])
    name = parts["name"].strip("[]").lower().removesuffix(".")
    if known is not None and name not in known:
        raise HostRefused(
            f"This server does not answer to the host {name[:MAX_NAMED]!r}; PIXTOOLS_ALLOWED_HOSTS lists the hosts "
            "that it answers to.",
            value=name[:MAX_NAMED],
        )


def _check_origin(headers: Headers, public_url: str | None) -> None:
    """Refuse requests from pages of another origin: browsers send forms and simple posts without asking the server.

    Browsers send the relation of the two origins in `Sec-Fetch-Site`; older browsers send only the origin of the page.
    Other clients send neither header.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = {headers.get("host", "").lower(), _netloc(public_url)} - {""}
    if _netloc(origin) in own or site in OWN_SITE or (site is None and origin is None):
        return
    raise ForeignOrigin(value=(origin or site or "")[:MAX_NAMED])


def _netloc(url: str | None) -> str:
    try:
        return urlsplit(url or "").netloc.lower()
    except ValueError:
        return ""
