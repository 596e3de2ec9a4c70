"""The table of docs/operations.md, made from the registry: `make docs` writes it into the file."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from app.operations import OPERATIONS, Operation
from app.parameters import ASSET_NAME, Params

PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
HEAD = ["| Operation | Parameter | Values | Default | |", "|---|---|---|---|---|"]
TABLE = re.compile(rf"^{re.escape(HEAD[0])}\n(?:\|.*\n)*", re.MULTILINE)
#: patterns of strings, as people write them
PATTERNS = {
    r"^#[0-9a-fA-F]{6}$": "`#rrggbb`",
    r"^#([0-9a-fA-F]{6}|[0-9a-fA-F]{8})$": "`#rrggbb` or `#rrggbbaa`",
    ASSET_NAME: "name of an asset",
}


def written(page: str) -> str:
    """The text of the page with its table regenerated.

    Raises:
        ValueError: the page has no table with the right head, or several.
    """
    text, tables = TABLE.subn(lambda _: table(), page)
    if tables != 1:
        raise ValueError(f"docs/operations.md has {tables} tables that begin with {HEAD[0]!r}; it needs one")
    return text


def table() -> str:
    """The Markdown table with a row for each operation and each of its parameters."""
    shared = list(_shared())
    own = [row for operation in OPERATIONS.values() for row in _operation(operation, shared)]
    return "\n".join([*HEAD, *own, *(row for kind in shared for row in _shared_rows(kind))]) + "\n"


def _shared() -> Iterator[type[Params]]:
    """The classes of parameters that several encoders share, base classes first."""
    used = [operation.params for operation in OPERATIONS.values() if operation.encodes]
    bases = dict.fromkeys(base for params in used for base in reversed(params.__mro__[1:]))
    for base in bases:
        if issubclass(base, Params) and base.__annotations__ and base not in used:
            yield base


def _operation(operation: Operation, shared: Iterable[type[Params]]) -> Iterator[str]:
    about = re.sub(r"\s+", " ", operation.params.__doc__ or "").strip()
    yield f"| `{operation.name}` | | | | {_cell(about)} |"
    elsewhere = {name for kind in shared for name in kind.__annotations__} if operation.encodes else set()
    schema = operation.params.model_json_schema()
    for name in operation.params.model_fields:
        if name not in elsewhere:
            yield _parameter("", name, schema)


def _shared_rows(kind: type[Params]) -> Iterator[str]:
    encoders = [operation for operation in OPERATIONS.values() if operation.encodes]
    without = [f"`{operation.name}`" for operation in encoders if not issubclass(operation.params, kind)]
    label = "every `convert_*`" + (f" but {', '.join(without)}" if without else "")
    schema = kind.model_json_schema()
    for number, name in enumerate(kind.__annotations__):
        yield _parameter("" if number else label, name, schema)


def _parameter(label: str, name: str, schema: dict[str, Any]) -> str:
    field = schema["properties"][name]
    required = name in schema.get("required", ())
    cells = [f"`{name}`", _values(field, schema), "required" if required else _default(field), _about(field)]
    return f"| {label} | " + " | ".join(map(_cell, cells)) + " |"


def _about(field: dict[str, Any]) -> str:
    texts = [field.get("description"), *(kind.get("description") for kind in field.get("anyOf", ()))]
    return next((text for text in texts if text), "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value)
    if not value:
        return "empty"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _number(value: float) -> str:
    return f"{value:,.10g}" if value >= 100_000 else f"{value:.10g}"


def _values(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """A description of the allowed values of a parameter."""
    if "$ref" in field:
        return _values(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    for several in ("anyOf", "oneOf"):
        if several in field:
            kinds = (_values(kind, schema) for kind in field[several] if kind.get("type") != "null")
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if "enum" in field:
        return ", ".join(f"`{value}`" if isinstance(value, str) else str(value) for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    return _of_type(field, schema)


def _of_type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    match field.get("type"):
        case "boolean":
            return "true, false"
        case "integer" | "number":
            return _range(field)
        case "string":
            return PATTERNS.get(field.get("pattern", ""), _count(field, "Length", "characters"))
        case "array":
            items = _values(field.get("items", {}), schema)
            return f"list of {_count(field, 'Items', '')}" + (f", each {items}" if items else "")
        case _:
            return ""


def _range(field: dict[str, Any]) -> str:
    low, above, high = (field.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f"above {_number(above)}" + (f", up to {_number(high)}" if high is not None else "")
    if low is None:
        return f"at most {_number(high)}" if high is not None else "number"
    return f"{_number(low)} to {_number(high)}" if high is not None else f"{_number(low)} or more"


def _count(field: dict[str, Any], what: str, unit: str) -> str:
    low, high = field.get(f"min{what}"), field.get(f"max{what}")
    if high is None:
        return "text" if unit else "values"
    counted = f"{high}" if low == high else f"{low} to {high}" if low else f"at most {high}"
    return counted + (f" {unit}" if unit else "")
