"""The API in this process over a database of each kind, without workers."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, cached_property
from typing import Any

import pytest

from app.database import Database
from tests.access.conftest import ann, bob, pixtools, service  # noqa: F401 - pytest finds fixtures by their names here


@pytest.fixture(scope="module", autouse=True)
def _made_once() -> Iterator[None]:
    """Give all tests of a file one engine, which compiles each statement once.

    `Database.aclose` closes the connections of an engine, so that it can be used in the next event loop.
    """
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("engine", "async_engine"):
            patch.setattr(Database, name, _of_url(name, stack))
        yield


def _of_url(name: str, stack: ExitStack) -> cached_property:
    """An engine of `Database` that all instances with the same URL share; the stack closes its connections."""
    make = vars(Database)[name].func

    @cache
    def made(url: str) -> Any:
        engine = make(Database(url))
        if name == "engine":
            stack.callback(engine.dispose)
        return engine

    shared = cached_property(lambda database: made(database.url().render_as_string(hide_password=False)))
    shared.__set_name__(Database, name)
    return shared
