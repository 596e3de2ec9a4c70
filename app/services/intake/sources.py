"""Where the input of a job comes from, when it is not a part of a form."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from app.errors import InvalidSource, UploadTooLarge
from app.services.intake.validation import escaped, short

DATA_BYTES = 512_000  # of the content of a `data:` URL
DATA = re.compile(r"data:(?P<type>[^,]*?)(?P<base64>;\s*base64)?,(?P<content>.*)", re.IGNORECASE | re.DOTALL)
BLANK = re.compile(r"[ \t\r\n\f]+")
FORMS = '`input` is {"url": "data:…"}'


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """The content itself, of a `data:` URL."""

    content: bytes


def read_source(value: Any, pointer: str) -> DataSource:
    """What `input` names.

    Args:
        value: as sent.
        pointer: to it.

    Raises:
        InvalidSource: it is in none of the forms that there are.
        UploadTooLarge: what the `data:` URL holds.
    """
    if not isinstance(value, dict):
        _refuse(f"{FORMS}.", pointer, value)
    for name in value:
        if name != "url":
            _refuse(f"`input` has no member {name[:64]!r}: {FORMS}.", f"{pointer}/{escaped(name)}", None)
    url = value.get("url")
    if not isinstance(url, str):
        _refuse(f"{FORMS}.", f"{pointer}/url", url)
    return _read_data(url, f"{pointer}/url")


def _read_data(url: str, pointer: str) -> DataSource:
    parts = DATA.fullmatch(url)
    if parts is None:
        _refuse("The URL must be a data: URL with a comma before its content.", pointer, url[:32])
    content = _decoded(parts["content"], pointer, is_base64=parts["base64"] is not None)
    if len(content) > DATA_BYTES:
        detail = f"A data: URL holds at most {DATA_BYTES} bytes; send a larger file as a form."
        raise UploadTooLarge(detail, pointer=pointer, limit=DATA_BYTES, value=len(content))
    return DataSource(content=content)


def _decoded(text: str, pointer: str, *, is_base64: bool) -> bytes:
    """The bytes of a `data:` URL, by RFC 2397: base64, of either alphabet and with or without its padding, or %XX."""
    raw = unquote_to_bytes(text)
    if not is_base64:
        return raw
    try:
        packed = BLANK.sub("", raw.decode("ascii")).translate(str.maketrans("-_", "+/")).rstrip("=")
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        _refuse("The content of the data: URL is no base64.", pointer, None)


def _refuse(detail: str, pointer: str, value: Any) -> NoReturn:
    raise InvalidSource(detail, pointer=pointer, value=None if value is None else short(value))
