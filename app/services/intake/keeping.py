"""The data that a client attaches to a job for its own use: tags, an external id, and how long to keep the job."""

import json
import re
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidExternalId, InvalidParameter, InvalidTags, KeepTooLong
from app.services.intake import strict_json
from app.services.intake.strict_json import NotStrict
from app.services.intake.validation import escaped, short

MAX_TAGS = 16
MAX_TAG_NAME = 64  # characters
MAX_TAG_VALUE = 255
MAX_TAGS_BYTES = 4096  # size of all tags as JSON; limited because events contain them
MAX_EXTERNAL_ID = 255  # characters
MAX_SECONDS = 2**31 - 1  # limit of the column
TAG_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_TAG_NAME}}}", re.ASCII)
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """The checked values."""

    tags: dict[str, str] | None = None
    external_id: str | None = None
    #: None: the default of the service
    keep_seconds: int | None = None

    @property
    def members(self) -> dict[str, Any]:
        """The given values by name, for the fingerprint of a request."""
        return {name: value for name, value in self.__dict__.items() if value is not None}

    def check(self, most: int) -> None:
        """Refuse to keep a job for longer than a tenant may.

        Raises:
            KeepTooLong: the time exceeds `most` seconds.
        """
        seconds = self.keep_seconds
        if seconds is not None and seconds > most:
            detail = f"A job can be kept for {most} seconds after its end at most, and {seconds} were asked for."
            raise KeepTooLong(detail, pointer="#/keep_seconds", limit=most, value=seconds)


def read_keeping(tags: str | None, external_id: str | None, keep_seconds: str | None) -> Keeping:
    """Read the fields of a form; an empty field counts as missing, since forms of web pages send those.

    Args:
        tags: a JSON object.
        external_id: any text without line breaks.
        keep_seconds: a whole number as text.

    Raises:
        InvalidParameter: a field is not valid.
    """
    return Keeping(
        tags=checked_tags(_json(tags)) if tags else None,
        external_id=checked_external_id(external_id) if external_id else None,
        keep_seconds=checked_keep_seconds(_whole(keep_seconds)) if keep_seconds else None,
    )


def _json(text: str) -> Any:
    try:
        return strict_json.read(text)
    except NotStrict as error:
        raise InvalidTags(f"`tags` is not valid JSON{error.args[0]}.", pointer="#/tags", value=short(text)) from None


def checked_tags(tags: Any, pointer: str = "#/tags") -> dict[str, str]:
    """Check the tags of a job.

    Raises:
        InvalidTags: the tags are not valid.
    """
    if not isinstance(tags, dict):
        raise InvalidTags('Tags are a JSON object, as {"sku": "7"}.', pointer=pointer, value=short(tags))
    if len(tags) > MAX_TAGS:
        detail = f"There are {len(tags)} tags, the limit is {MAX_TAGS}."
        raise InvalidTags(detail, pointer=pointer, limit=MAX_TAGS, value=len(tags))
    for name, value in tags.items():
        _check_tag(name, value, f"{pointer}/{escaped(name)}")
    size = len(json.dumps(tags).encode())
    if size > MAX_TAGS_BYTES:
        detail = f"The tags are {size} bytes of JSON, the limit is {MAX_TAGS_BYTES}."
        raise InvalidTags(detail, pointer=pointer, limit=MAX_TAGS_BYTES, value=size)
    return tags


def _check_tag(name: Any, value: Any, pointer: str) -> None:
    if not isinstance(name, str) or not TAG_NAME.fullmatch(name):
        detail = f"A tag's name is 1 to {MAX_TAG_NAME} letters, digits, `_`, `.` and `-`."
        raise InvalidTags(detail, pointer=pointer, limit=MAX_TAG_NAME, value=short(name))
    if not isinstance(value, str):
        raise InvalidTags(f"The value of the tag {name!r} must be a text.", pointer=pointer, value=short(value))
    if len(value) > MAX_TAG_VALUE or UNPRINTABLE.search(value):
        detail = f"The value of the tag {name!r} must have at most {MAX_TAG_VALUE} characters, no control characters."
        raise InvalidTags(detail, pointer=pointer, limit=MAX_TAG_VALUE, value=short(value))


def checked_external_id(value: Any, pointer: str = "#/external_id") -> str:
    """Check a client's external id for a job.

    Raises:
        InvalidExternalId: the id is not valid.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_EXTERNAL_ID or UNPRINTABLE.search(value):
        raise InvalidExternalId(pointer=pointer, limit=MAX_EXTERNAL_ID, value=short(value))
    return value


def checked_keep_seconds(value: Any, pointer: str = "#/keep_seconds") -> int:
    """Check the seconds for which a job is to be kept.

    Raises:
        InvalidParameter: the value is not valid.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SECONDS:
        detail = "`keep_seconds` is a whole number of seconds, 1 or more."
        raise InvalidParameter(detail, pointer=pointer, value=short(value))
    return value


def _whole(text: str) -> Any:
    return int(text) if WHOLE.fullmatch(text) else text


def read_tag(text: str | None) -> tuple[str, str] | None:
    """Parse `name:value` from a query; the value may contain further colons.

    Raises:
        InvalidParameter: no tag can have this name or value.
    """
    if text is None:
        return None
    name, colon, value = text.partition(":")
    if not colon:
        detail = "A tag is searched for by name and value, as `sku:7`."
        raise InvalidParameter(detail, pointer="#/query/tag", value=short(text))
    _check_tag(name, value, "#/query/tag")
    return name, value


def check_text(name: str, text: str | None) -> str | None:
    """Check a text to search for; PostgreSQL would refuse a text that it cannot store.

    Raises:
        InvalidParameter: no job can have this text.
    """
    if text is not None and UNPRINTABLE.search(text):
        raise InvalidParameter(f"`{name}` has a control character.", pointer=f"#/query/{name}", value=short(text))
    return text
