"""The API in this process over a database of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.database import Database
from tests.support.cost import Meter
from tests.support.tenants import Belongings, Service, furnish, use_engines


@pytest.fixture
def service(database: Database, database_url: str, engines: Database, tmp_path: Path) -> Iterator[Service]:
    """Empty; the fixture `database` takes away what a test leaves."""
    running = Service(database_url, tmp_path)
    use_engines(running.resources.database, engines)
    yield running
    del running.resources.database.engine  # the next test has it too
    running.resources.database.close()


@pytest.fixture
def ann(service: Service) -> Belongings:
    return furnish(service.resources, "ann")


@pytest.fixture
def bob(service: Service, ann: Belongings) -> Belongings:
    return furnish(service.resources, "bob")


@pytest.fixture
def meter() -> Iterator[Meter]:
    """Counts what every engine does, until the test is over."""
    counting = Meter()
    yield counting
    event.remove(Engine, "before_cursor_execute", counting._execute)
    event.remove(Engine, "commit", counting._commit)
