"""The member `input` of a JSON request: the source of a job's input."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

from app.errors import InvalidSource, LimitExceeded, UploadTooLarge
from app.services.intake.validation import escaped, short
from app.services.sources import ResultSource, Source, StoreSource, UrlSource

DATA_BYTES = 512_000  # most bytes of the content of a `data:` URL
DATA = re.compile(r"data:(?P<type>[^,]*?)(?P<base64>;\s*base64)?,(?P<content>.*)", re.IGNORECASE | re.DOTALL)
BLANK = re.compile(r"[ \t\r\n\f]+")
FORMS = '`input` is {"url": "https://…"}, {"url": "data:…"}, {"store": "…", "key": "…"} or {"job": "…", "result": "…"}'

MAX_KEY = 1024  # bytes; the limit of S3
MAX_HEADERS = 16
MAX_HEADER_BYTES = 8192  # total size of all names and values
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
#: headers that this server sets itself, or that would change where the request goes or what the answer is
RESERVED = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "range", "te", "trailer"),
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"),
        *("transfer-encoding", "upgrade", "user-agent"),
    }
)


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """The content of a `data:` URL."""

    content: bytes


def read_source(value: Any, pointer: str) -> DataSource | Source:
    """Parse `input`.

    Args:
        value: the value that was sent.
        pointer: JSON pointer to the value.

    Raises:
        InvalidSource: the value has none of the known forms.
        UploadTooLarge: the content of a `data:` URL is too large.
    """
    if not isinstance(value, dict):
        raise _refused(f"{FORMS}.", pointer, value)
    kind = next((name for name in KINDS if name in value), None)
    if kind is None:
        raise _refused(f"{FORMS}.", f"{pointer}/url", None)
    read, members = KINDS[kind]
    _only(value, members, pointer)
    return read(value, pointer)


def _only(value: Mapping[str, Any], members: tuple[str, ...], pointer: str) -> None:
    for name in value:
        if name not in members:
            known = ", ".join(members)
            raise _refused(
                f"This `input` has no member {name[:64]!r}; it has {known}.", f"{pointer}/{escaped(name)}", None
            )


def _text(value: Mapping[str, Any], name: str, pointer: str) -> str:
    text = value.get(name)
    if isinstance(text, str) and text:
        return text
    detail = f"{name} is missing: {FORMS}." if text is None else f"{name} must be a string, and not an empty one."
    raise _refused(detail, f"{pointer}/{name}", text)


def _read_url(value: Mapping[str, Any], pointer: str) -> DataSource | UrlSource:
    url = _text(value, "url", pointer)
    if url[:5].lower() == "data:":
        _only(value, ("url",), pointer)
        return _read_data(url, f"{pointer}/url")
    return UrlSource(url=url, headers=_read_headers(value.get("headers"), f"{pointer}/headers"))


def _read_data(url: str, pointer: str) -> DataSource:
    parts = DATA.fullmatch(url)
    if parts is None:
        raise _refused("A data: URL has a comma before its content.", pointer, url[:32])
    content = _decoded(parts["content"], pointer, is_base64=parts["base64"] is not None)
    if len(content) > DATA_BYTES:
        detail = f"A data: URL holds at most {DATA_BYTES} bytes; send a larger file as a form."
        raise UploadTooLarge(detail, pointer=pointer, limit=DATA_BYTES, value=len(content))
    return DataSource(content=content)


def _decoded(text: str, pointer: str, *, is_base64: bool) -> bytes:
    """The bytes of a `data:` URL (RFC 2397): base64 in either alphabet, with or without padding, or %XX."""
    raw = unquote_to_bytes(text)
    if not is_base64:
        return raw
    try:
        packed = BLANK.sub("", raw.decode("ascii")).translate(str.maketrans("-_", "+/")).rstrip("=")
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refused("The content of the data: URL is not a base64.", pointer, None) from None


def _read_headers(value: Any, pointer: str) -> dict[str, str]:
    """Parse the headers for the request; errors never contain a value, since it may be a secret."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused("headers must be an object of strings.", pointer, None)
    if len(value) > MAX_HEADERS:
        detail = f"There may be {MAX_HEADERS} headers."
        raise LimitExceeded(detail, pointer=pointer, limit=MAX_HEADERS, value=len(value))
    seen: set[str] = set()
    for name, text in value.items():
        _check_header(name, text, seen, f"{pointer}/{escaped(name)}")
    size = sum(len(name) + len(text) for name, text in value.items())
    if size > MAX_HEADER_BYTES:
        detail = f"The headers may have {MAX_HEADER_BYTES} bytes together."
        raise LimitExceeded(detail, pointer=pointer, limit=MAX_HEADER_BYTES, value=size)
    return dict(value)


def _check_header(name: str, text: Any, seen: set[str], pointer: str) -> None:
    if not HEADER_NAME.fullmatch(name):
        raise _refused("This is not a name of a header.", pointer, None)
    lowered = name.lower()
    if lowered in RESERVED or lowered.startswith(("proxy-", "pixtools-")):
        raise _refused(f"The header {name} cannot be set: PixTools itself says what goes there.", pointer, None)
    if lowered in seen:
        raise _refused(f"The header {name} is given twice.", pointer, None)
    seen.add(lowered)
    if not isinstance(text, str) or not HEADER_VALUE.fullmatch(text) or text != text.strip(" "):
        raise _refused("The value of a header is printable ASCII without spaces around it.", pointer, None)


def _read_result(value: Mapping[str, Any], pointer: str) -> ResultSource:
    text = _text(value, "job", pointer)
    try:
        job_id = UUID(text)
    except ValueError:
        raise _refused("job must be the id of a job.", f"{pointer}/job", text) from None
    return ResultSource(job=job_id, result=_text(value, "result", pointer))


def _read_stored(value: Mapping[str, Any], pointer: str) -> StoreSource:
    store, key = _text(value, "store", pointer), _text(value, "key", pointer)
    size = len(key.encode())
    if size > MAX_KEY:
        detail = f"A key has at most {MAX_KEY} bytes."
        raise LimitExceeded(detail, pointer=f"{pointer}/key", limit=MAX_KEY, value=size)
    if not key.isprintable() or any(part in {"", ".", ".."} for part in key.split("/")):
        detail = "A key is printable, and has no empty part, `.` or `..` between its slashes."
        raise _refused(detail, f"{pointer}/key", key)
    return StoreSource(store=store, key=key)


#: by the member that identifies the kind: the parser, and the allowed members
KINDS: dict[str, tuple[Callable[[Mapping[str, Any], str], DataSource | Source], tuple[str, ...]]] = {
    "url": (_read_url, ("url", "headers")),
    "store": (_read_stored, ("store", "key")),
    "job": (_read_result, ("job", "result")),
}


def _refused(detail: str, pointer: str, value: Any) -> InvalidSource:
    return InvalidSource(detail, pointer=pointer, value=None if value is None else short(value))
