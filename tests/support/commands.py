"""Runs commands within the process of the tests."""

from collections.abc import Callable

from typer.testing import CliRunner, Result

from app.commands.root import app

Run = Callable[..., Result]


def run(*arguments: str) -> Result:
    """Run a `pixtools` command."""
    return CliRunner().invoke(app, arguments)
