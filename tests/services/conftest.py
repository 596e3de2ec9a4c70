"""A local store, an executor over it, and connections to the stores of users."""

from pathlib import Path

import pytest

from app.database import Database
from app.imaging import libvips, pipeline
from app.services.execution.executor import Executor
from app.services.storage.local import LocalFolder
from tests.support.connections import connection, google  # noqa: F401 - pytest finds fixtures by their names here
from tests.support.executing import executor_with


@pytest.fixture
def storage(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "objects")


@pytest.fixture
def executor(database: Database, storage: LocalFolder, tmp_path: Path) -> Executor:
    return executor_with(pipeline.render, database, storage, tmp_path)


@pytest.fixture(scope="module")
def _libvips() -> None:
    libvips.configure(1)
