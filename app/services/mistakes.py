"""What is told about a value that pydantic refused: a sentence, the limit and the value."""

import math
from collections.abc import Mapping
from typing import Any

LONGEST_VALUE = 64  # characters of a refused value that are told again
BOUNDS = ("ge", "le", "gt", "lt", "max_length", "min_length")


def limit_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The bound that was crossed."""
    context = mistake.get("ctx", {})
    return next(({"limit": context[name]} for name in BOUNDS if name in context), {})


def value_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The value that was refused, unless it is one that is missing."""
    return {} if mistake["type"] == "missing" or not mistake["loc"] else {"value": short(mistake["input"])}


def sentence(message: str) -> str:
    """What pydantic says, without its mark for errors of validators."""
    return message.removeprefix("Value error, ").rstrip(".") + "."


def short(value: Any) -> Any:
    """The refused value, unless it is something large, or a number that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | None) and abs(value or 0) < 10**LONGEST_VALUE:
        return value
    return str(value)[:LONGEST_VALUE]


def escaped(part: str) -> str:
    """A part of a JSON pointer."""
    return part[:LONGEST_VALUE].replace("~", "~0").replace("/", "~1")
