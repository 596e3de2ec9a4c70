"""What is to be done with images: the options that say it, and what they mean."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.commands.inputs import operations_of

OperationsOption = Annotated[
    str | None, typer.Option("--operations", "-p", help="The tree: JSON, @FILE, or names separated by commas.")
]
TemplateOption = Annotated[
    str | None, typer.Option("--template", "-t", help="A template instead of a tree: `shop`, or a version, `shop@2`.")
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", help="A value for the template, NAME=VALUE; JSON, else a text. Can be given several times."
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="To find the jobs by, NAME:VALUE; can be given several times."),
]


def order_of(
    operations: str | None, template: str | None, param: Sequence[str] | None, tag: Sequence[str] | None = None
) -> tuple[str | None, dict[str, Any]]:
    """The tree as JSON text, and the other members of a request that were given.

    Raises:
        BadParameter: there is no tree and no template, there are both, or one has not the right form.
    """
    if (operations is None) == (template is None):
        raise typer.BadParameter("Say what to do: by --operations, or by --template.")
    if param and template is None:
        raise typer.BadParameter("--param is for a --template.")
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
    """`NaN` and `Infinity`, which Python reads and JSON has not."""
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
