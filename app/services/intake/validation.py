"""Explanations of values that pydantic refused: a sentence, the limit and the value."""

import math
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

LONGEST_VALUE = 64  # characters of a refused value that are repeated
KIND_SHOULD = re.compile(r"^[A-Z][a-z]+ should ")  # how pydantic begins: `Input should`, `String should`
BOUNDS = ("ge", "le", "gt", "lt", "max_length", "min_length")


def limit_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The limit that was exceeded."""
    context = mistake.get("ctx", {})
    return next(({"limit": context[name]} for name in BOUNDS if name in context), {})


def value_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The value that was refused, unless it is missing."""
    return {} if mistake["type"] == "missing" or not mistake["loc"] else {"value": short(mistake["input"])}


def explain(mistake: Mapping[str, Any]) -> str:
    """A sentence that names the field and its mistake."""
    name = _name_of(mistake["loc"])
    if mistake["type"] == "missing":
        return f"{name} is missing."
    if mistake["type"] == "extra_forbidden":
        return f"{name} is not known here."
    said = mistake["msg"].removeprefix("Value error, ").rstrip(".").replace(" after validation", "")
    said = KIND_SHOULD.sub("must ", said)
    return f"{name} {said}." if name and said.startswith("must ") else f"{name}: {said}." if name else f"{said}."


def _name_of(place: tuple[str | int, ...]) -> str:
    """`events[0]`: the field, and the number of its entry; the pointer says where the field is."""
    indices = list(takewhile(lambda part: isinstance(part, int), reversed(place)))[::-1]
    names = place[: len(place) - len(indices)]
    return "".join([str(names[-1])[:LONGEST_VALUE] if names else "", *(f"[{index}]" for index in indices)])


def short(value: Any) -> Any:
    """The refused value, unless it is something large, or a number that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | None) and abs(value or 0) < 10**LONGEST_VALUE:
        return value
    text = str(value)
    # the query of a URL may hold a token, and what is refused may be logged by its sender
    return (text.partition("?")[0] if "://" in text else text)[:LONGEST_VALUE]


def escaped(part: str) -> str:
    """A part of a JSON pointer."""
    return part[:LONGEST_VALUE].replace("~", "~0").replace("/", "~1")
