"""The options that say what to do with images, and their meaning in a request."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.commands.inputs import operations_of

OperationsOption = Annotated[
    str | None, typer.Option("--operations", "-p", help="The tree: JSON, @FILE, or names separated by commas.")
]
TemplateOption = Annotated[
    str | None, typer.Option("--template", "-t", help="A template instead of a tree: `shop`, or a version: `shop@2`.")
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", help="A value for the template, NAME=VALUE, as JSON or plain text. Can be given several times."
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="NAME:VALUE, for finding the jobs later; can be given several times."),
]


def order_of(
    operations: str | None, template: str | None, param: Sequence[str] | None, tag: Sequence[str] | None = None
) -> tuple[str | None, dict[str, Any]]:
    """The tree as JSON text, and the other members of a request that were given.

    Raises:
        BadParameter: neither a tree nor a template is given, or both are, or an option does not have the right form.
    """
    if (operations is None) == (template is None):
        raise typer.BadParameter("Give either --operations or --template.")
    if param and template is None:
        raise typer.BadParameter("--param needs a --template.")
    given = {"template": template, "params": _params(param or ()), "tags": _pairs(tag or (), ":", "--tag")}
    tree = None if operations is None else operations_of(operations)
    return tree, {name: value for name, value in given.items() if value}


def _params(texts: Sequence[str]) -> dict[str, Any]:
    return {name: _value(text) for name, text in _pairs(texts, "=", "--param").items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text


def _no_json(text: str) -> None:
    """Refuse `NaN` and `Infinity`, which Python reads and JSON does not have."""
    raise ValueError(text)


def _pairs(texts: Sequence[str], between: str, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, found, value = text.partition(between)
        if not name or not found:
            raise typer.BadParameter(f"{option} is NAME{between}VALUE, not {text!r}.")
        if name in pairs:
            raise typer.BadParameter(f"{option} gives {name!r} twice.")
        pairs[name] = value
    return pairs
