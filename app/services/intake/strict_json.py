"""A strict parser of JSON, which refuses text that two parsers could read differently."""

import json
from collections import Counter
from typing import Any, NoReturn


class NotStrict(ValueError):
    """The text is refused; `args[0]` completes a sentence that begins with the name of the text."""


class NestedTooDeep(NotStrict):
    """Arrays and objects are nested too deeply."""


class KeyTwice(NotStrict):
    """An object has a duplicate key; `args[1]` is the key, shortened."""


def read(text: str | bytes) -> Any:
    """Parse a JSON text in UTF-8.

    Raises:
        NotStrict: the text is not JSON, or contains a duplicate key, NaN, Infinity, or a number or a character that
            could not be stored.
    """
    try:
        value = json.loads(_without_mark(text), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        # 1e999 and half a surrogate pair can be parsed, but neither stored nor repeated in an answer
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except NotStrict:
        raise
    except RecursionError:
        raise NestedTooDeep(": it is nested too deep") from None
    except ValueError as error:
        raise NotStrict(_reason(error)) from None
    return value


def _reason(error: ValueError) -> str:
    """The reason why a text is not JSON, with the position; a character that may be invisible is given by its code."""
    if isinstance(error, json.JSONDecodeError):
        found = error.doc[error.pos : error.pos + 1]
        number = f" (U+{ord(found):04X})" if found and not found.isascii() else ""
        return f" at line {error.lineno}, column {error.colno}{number}"
    if isinstance(error, UnicodeDecodeError):
        return ": it must be UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return ": a \\u escape is half of a surrogate pair"
    return ": NaN, Infinity and numbers too large to be stored are not allowed"


def _without_mark(text: str | bytes) -> str | bytes:
    """The text without the byte order mark that some editors write; Python's parser accepts it only in bytes."""
    return text.removeprefix("\ufeff") if isinstance(text, str) else text


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; a duplicate key is refused, since either of its values may be intended."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0][:64]
        raise KeyTwice(f": the key {twice!r} appears twice in one object", twice)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
