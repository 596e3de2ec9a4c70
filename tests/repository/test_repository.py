"""What keeps code, settings, files and documents from drifting apart."""

import ast
import importlib
import json
import re
import subprocess
import threading
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app import __version__, errors, models
from app.config import Settings
from app.database import Base, Database
from app.locks import AdvisoryLock
from app.migrations import check, state, upgrade, wait
from app.operations import OPERATIONS
from tests.support.catalogue import classes_below
from tests.support.deployment import bare
from tests.support.preloaded import preloaded
from tests.support.servers import PostgreSQL

ROOT = Path(__file__).parents[2]
MIGRATION_LOCK = AdvisoryLock.MIGRATE.value


def migrated(url: str) -> Database:
    upgrade(url)
    upgrade(url)  # again: nothing to do
    return Database(url)


def assert_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert "jobs" in inspect(connection).get_table_names()
    database.close()


def test_migrations_make_the_models_tables_on_sqlite(tmp_path: Path) -> None:
    assert_schema(migrated(f"sqlite:///{tmp_path}/folder/pixtools.db"))


@pytest.mark.integration
def test_migrations_make_the_models_tables_on_postgresql(postgresql: PostgreSQL) -> None:
    assert_schema(migrated(postgresql.create_database("migrated-by-hand")))


def test_alembic_knows_the_same_migrations(tmp_path: Path) -> None:
    """The start reads their revisions without it."""
    url = f"sqlite:///{tmp_path}/pixtools.db"
    alembic = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert state(url) == (None, alembic.get_current_head())
    assert not (tmp_path / "pixtools.db").exists()
    database = migrated(url)
    for revision in {script.revision for script in alembic.walk_revisions()}:
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        assert state(url)[0] == revision
        check(url)
    database.close()


def test_waiting_for_the_schema_ends_when_others_have_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/pixtools.db"
    waiting = threading.Thread(target=wait, args=(url,), kwargs={"pause": 0.01}, daemon=True)
    waiting.start()
    for revision in (None, "0001"):
        if revision:
            upgrade(url, revision)
        waiting.join(0.3)
        assert waiting.is_alive()
    upgrade(url)
    waiting.join(30)
    assert not waiting.is_alive()


IMPATIENT = """
import app.database
app.database.LOCK_TIMEOUT = "1s"
from app.cli import main
main()
"""
ASKING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%advisory_lock(%%' AND datname = %s AND pid <> %s"


@pytest.mark.integration
def test_migrators_wait_for_each_other_however_long_one_takes(postgresql: PostgreSQL, tmp_path: Path) -> None:
    url = postgresql.create_database("two_migrators")
    name = url.rpartition("/")[2]
    environment = bare(tmp_path, PIXTOOLS_DATABASE_URL=url, PIXTOOLS_BROKER_URL="amqp://127.0.0.1:1//")
    log = tmp_path / "log"
    parent = preloaded(["app"], environment)
    with postgresql.connect(name) as first:  # a migrator at its work
        first.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
        others = [parent.start(["-c", IMPATIENT, "migrate"], environment, log, log) for _ in range(2)]
        while first.execute(ASKING, [name, first.info.backend_pid]).fetchone() != (2,):
            assert [other.poll() for other in others] == [None, None], log.read_text()
            time.sleep(0.1)
        time.sleep(1.5)  # longer than any other lock is waited for
        assert [other.poll() for other in others] == [None, None], "a migrator gave up"
        first.execute(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")
    assert [other.wait(60) for other in others] == [0, 0], log.read_text()
    assert_schema(Database(url))


def test_a_later_schema_is_not_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/pixtools.db"
    database = migrated(url)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of a later version'"))
    database.close()
    wait(url)


@pytest.mark.integration
def test_a_database_that_is_away_is_waited_for(postgresql: PostgreSQL) -> None:
    url = postgresql.database_url("not_yet")
    waiting = threading.Thread(target=wait, args=(url,), kwargs={"pause": 0.01}, daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    upgrade(postgresql.create_database("not_yet"))
    waiting.join(30)
    assert not waiting.is_alive()


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    named = re.findall(r"^#?\s?PIXTOOLS_([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(name.upper() for name in Settings.model_fields)


def test_every_operation_has_a_handler_and_a_golden_image() -> None:
    for operation in OPERATIONS.values():
        module, function = operation.handler.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert list((ROOT / "tests" / "golden").glob(f"{operation.name}.*")), operation.name


def test_every_operation_is_documented() -> None:
    documented = (ROOT / "docs" / "operations.md").read_text()
    for operation in OPERATIONS.values():
        assert f"`{operation.name}`" in documented
        for parameter in operation.params.model_fields:
            assert f"`{parameter}`" in documented, f"{operation.name}: {parameter}"


def test_packages_of_npm_are_pinned_and_come_from_whatever_registry_it_uses() -> None:
    listed = subprocess.run(["git", "ls-files", "*package-lock.json"], cwd=ROOT, capture_output=True, check=True)
    locks = listed.stdout.decode().split()
    assert len(locks) >= 3
    for lock in locks:
        packages = json.loads((ROOT / lock).read_text())["packages"]
        assert not [name for name, package in packages.items() if "resolved" in package], lock
        assert not [name for name, package in packages.items() if name and "integrity" not in package], lock


def test_services_never_commit() -> None:
    """One request or task is one transaction, committed where the session was opened."""
    for path in (ROOT / "app").rglob("*.py"):
        if path.name == "database.py":
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = [call.func.attr for call in calls if isinstance(call.func, ast.Attribute)]
        assert "commit" not in names, path


def test_every_place_that_the_architecture_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:app|services|tests|docs|k8s|infra|training|benchmarks|alembic)/[^` ]*)`", page))
    assert len(named) > 40
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "app" / name).exists(), name
    table = page.partition("## If you want X, open Y")[2]
    assert len(re.findall(r"^\| (?!If you|---)", table, re.MULTILINE)) >= 25


def test_the_architecture_draws_the_layers_that_imports_are_held_to() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    section = (ROOT / "ARCHITECTURE.md").read_text().partition("## Who may import whom")[2]
    app, services = section.split("```")[1].split("services:")
    drawn = [[" ".join(layer.split()) for layer in lines.split("->")] for lines in (app, services)]
    assert drawn == held


def test_the_version_is_the_same_everywhere() -> None:
    assert metadata.version("pixtools") == __version__
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"newTag: (\S+)", (ROOT / "k8s" / "kustomization.yaml").read_text())) == {__version__}
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_statuses_are_the_documented_ones() -> None:
    readme = (ROOT / "README.md").read_text()
    for status in models.JobStatus:
        assert f"`{status}`" in readme


def test_the_api_loads_no_codec(tmp_path: Path) -> None:
    """Nor does anything else that processes of the tests are forks of."""
    code = "import sys, app.main; print(sorted({'pyvips', 'PIL', 'torch', 'onnxruntime'} & set(sys.modules)))"
    environment = bare(tmp_path)
    loaded = preloaded(["app"], environment).run(["-c", code], environment)
    assert (loaded.returncode, loaded.stdout) == (0, "[]\n"), loaded.stderr


def test_every_error_is_in_the_one_tree_and_its_picture_is_true() -> None:
    for module in sorted(path for path in (ROOT / "app").rglob("*.py") if path.stem != "__main__"):
        importlib.import_module(".".join(module.relative_to(ROOT).with_suffix("").parts))
    found = classes_below(errors.PixToolsError)
    assert {kind.__module__ for kind in found} == {"app.errors"}

    drawn = re.findall(r"^[│├└─ ]+(\w+) +(\d+|-)(?: +(retryable))?", errors.__doc__ or "", re.MULTILINE)
    for name, status, retryable in drawn:
        kind = getattr(errors, name)
        assert status in {"-", str(kind.status)}, name
        assert bool(retryable) == kind.retryable or not issubclass(kind, errors.StepFailed), name
    assert sorted(name for name, _, _ in drawn) == sorted(kind.__name__ for kind in found[1:])
    assert len({kind.code for kind in found}) >= len(found) - 1, "only the unexpected share a code"
