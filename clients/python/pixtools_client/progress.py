"""The progress of a job on a terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

MARKS = {
    "pending": "[dim]·[/]",
    "running": "[cyan]…[/]",
    "succeeded": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "skipped": "[yellow]-[/]",
    "cancelled": "[yellow]-[/]",
}


def show(states: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Draw each state of a job over the one before; the last one."""
    job: dict[str, Any] = {}
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        for job in states:
            live.update(_table(job), refresh=True)
    return job


def _table(job: dict[str, Any]) -> Table:
    table = Table(
        title=f"{job['input']['filename']}: {job['status']}", title_justify="left", box=None, show_header=False
    )
    for step in job["steps"]:
        indent = "  " * step["id"].count(".")
        problem = step["error"]["message"] if step["error"] else ""
        table.add_row(MARKS[step["status"]], f"{indent}{step['op']}", _time(step), problem)
    return table


def _time(step: dict[str, Any]) -> str:
    if step["seconds"] is not None:
        return f"{step['seconds']:.2f} s"
    if step["seconds_left"] is not None:
        return f"{step['progress']:.0%}, {step['seconds_left']:.0f} s left"
    return ""
