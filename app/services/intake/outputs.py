"""The member `output` of a request: where copies of its results are written."""

from collections.abc import Callable, Mapping
from typing import Any

from app.errors import InvalidOutput
from app.services.intake import strict_json
from app.services.intake.strict_json import NotStrict
from app.services.intake.validation import escaped, short
from app.services.outputs import MAX_KEY, Output, unknown_places

MAX_HEADER = 256  # characters


def parse_output(text: str, pointer: str) -> Output:
    """Parse the field `output` of a form.

    Raises:
        InvalidOutput: the field is not JSON, or does not have the right form.
    """
    try:
        value = strict_json.read(text)
    except NotStrict as error:
        raise InvalidOutput(f"The field `output` is not valid JSON{error.args[0]}.", pointer=pointer) from None
    return read_output(value, pointer)


def read_output(value: Any, pointer: str) -> Output:
    """Parse the member `output`.

    Raises:
        InvalidOutput: the member does not have the right form.
    """
    if not isinstance(value, dict):
        raise _refused('`output` is {"store": "…", "key": "{input.stem}/{name}.{ext}"}.', pointer, value)
    given = {name: each for name, each in value.items() if each is not None}
    _check_names(value, given, pointer)
    for name, each in given.items():
        if not isinstance(each, str) or not each:
            raise _refused(f"{name} must be a string, and not an empty one.", f"{pointer}/{name}", each)
        if (mistake := MEMBERS[name](each)) is not None:
            raise _refused(mistake, f"{pointer}/{name}", each)
    return Output(**given)


def _check_names(value: Mapping[str, Any], given: Mapping[str, Any], pointer: str) -> None:
    for name in value:
        if name not in MEMBERS:
            detail = f"`output` has no member {name[:64]!r}; it has {', '.join(MEMBERS)}."
            raise _refused(detail, f"{pointer}/{escaped(name)}", None)
    for name in ("store", "key"):
        if name not in given:
            raise _refused(f"{name} is missing.", f"{pointer}/{name}", None)


def _check_key(text: str) -> str | None:
    if not text.isprintable() or len(text.encode()) > MAX_KEY:
        return f"key has at most {MAX_KEY} bytes, all printable."
    if unknown := unknown_places(text):
        known = "{input.dir}, {input.stem}, {name}, {ext}, {sha256:12}, {date} and {job}"
        return f"key has no place {unknown[0][:64]!r}; there are {known}."
    return None


def _check_existing(text: str) -> str | None:
    return None if text in {"replace", "skip", "fail"} else "if_exists is replace, skip or fail."


def _check_header(text: str) -> str | None:
    is_header = text.isascii() and text.isprintable() and len(text) <= MAX_HEADER
    return None if is_header else f"cache_control is at most {MAX_HEADER} characters of printable ASCII."


#: by member: a function that returns what is wrong with the value, or None
MEMBERS: dict[str, Callable[[str], str | None]] = {
    "store": lambda _: None,
    "key": _check_key,
    "if_exists": _check_existing,
    "cache_control": _check_header,
}


def _refused(detail: str, pointer: str, value: Any) -> InvalidOutput:
    return InvalidOutput(detail, pointer=pointer, value=None if value is None else short(value))
