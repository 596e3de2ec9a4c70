"""`pixtools plan`: what a request would do and cost."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common import Server, opened
from app.commands.display import size_of
from app.commands.inputs import one_input
from app.commands.orders import OperationsOption, ParamOption, TemplateOption, order_of
from app.commands.printing import echo_json, say

if TYPE_CHECKING:
    from pixtools_client import Plan

UNKNOWN = "?"


def plan(
    file: Annotated[str, typer.Argument(help="An image, a URL, or - for standard input.")],
    operations: OperationsOption = None,
    template: TemplateOption = None,
    param: ParamOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
    server: Server = None,
) -> None:
    """Show the results and the cost of a request, or every mistake in it; no job is made and no URL is fetched.

    Sizes of files, CPU time and memory are estimates. A question mark stands for a value that depends on the pixels, or
    on an image that has not been fetched.
    """
    tree, order = order_of(operations, template, param)
    given = one_input(file)
    filename = None if given.url else given.name
    with opened(server) as client:
        planned = client.plan(given.source, tree, filename=filename, **order)
    if as_json:
        echo_json(planned)
        return
    for line in lines_of(planned):
        say(line)


def lines_of(planned: "Plan") -> list[str]:
    """A table of the results, and a line with their cost."""
    rows = [("result", "format", "pixels", "about")]
    rows += [
        (each["name"], each["format"] or UNKNOWN, _pixels(each["width"], each["height"]), _bytes(each["bytes"]))
        for each in planned["results"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {format_:<{widths[1]}}  {pixels:>{widths[2]}}  {size:>{widths[3]}}"
        for name, format_, pixels, size in rows
    ]
    seconds = planned["cpu_seconds"]
    shown = UNKNOWN if seconds is None else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"
    return [*lines, f"CPU {shown} s, memory {_bytes(planned['memory_bytes'])}"]


def _pixels(width: int | None, height: int | None) -> str:
    return f"{width} x {height}" if width and height else UNKNOWN


def _bytes(size: int | None) -> str:
    return UNKNOWN if size is None else size_of(size)
