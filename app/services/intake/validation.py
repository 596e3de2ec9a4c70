"""Explains values that pydantic refuses: by a sentence, the limit and the value."""

import math
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

LONGEST_VALUE = 64  # characters of a refused value that are repeated
KIND_SHOULD = re.compile(r"^[A-Z][a-z]+ should ")  # how pydantic begins: `Input should`, `String should`
BOUNDS = ("ge", "le", "gt", "lt", "max_length", "min_length")


def limit_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The exceeded limit, as a member of the problem; empty without a limit."""
    context = mistake.get("ctx", {})
    return next(({"limit": context[name]} for name in BOUNDS if name in context), {})


def value_of(mistake: Mapping[str, Any]) -> dict[str, Any]:
    """The refused value, as a member of the problem; empty if the value is missing."""
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
    """The name of a field, with the index of an entry: `events[0]`."""
    indices = list(takewhile(lambda part: isinstance(part, int), reversed(place)))[::-1]
    names = place[: len(place) - len(indices)]
    return "".join([str(names[-1])[:LONGEST_VALUE] if names else "", *(f"[{index}]" for index in indices)])


def short(value: Any) -> Any:
    """The refused value in a form for an error: long text is cut, and a URL loses its query."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float | None) and abs(value or 0) < 10**LONGEST_VALUE:
        return value
    text = str(value)
    # the query of a URL may hold a token, and what is refused may be logged by its sender
    return (text.partition("?")[0] if "://" in text else text)[:LONGEST_VALUE]


def escaped(part: str) -> str:
    """Escape a name as part of a JSON pointer."""
    return part[:LONGEST_VALUE].replace("~", "~0").replace("/", "~1")
