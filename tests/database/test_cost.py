"""What a job costs the database: transactions and statements from the request to the last answer."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.preloaded import run
from tests.support.receiver import receiving
from tests.support.schema import migrated_database
from tests.support.servers import PostgreSQL


def costs(url: str, folder: Path, *webhook: str) -> list[dict[str, Any]]:
    ran = run(["tests.support.cost", url, str(folder / "data"), *webhook], os.environ, timeout=150)
    assert ran.returncode == 0, ran.stderr[-4000:]
    measured: list[dict[str, Any]] = json.loads(ran.stdout)
    assert [job["status"] for job in measured] == ["completed"] * (1 + len(webhook))
    return measured


def within(measured: dict[str, Any], commits: int, statements: int) -> None:
    listed = "\n".join(measured["statements"])
    assert measured["commits"] <= commits, f"{measured['commits']} commits\n{listed}"
    assert len(measured["statements"]) <= statements, f"{len(measured['statements'])} statements\n{listed}"


Measured = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def measured(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """On PostgreSQL a job and one with a webhook, on SQLite a job; both at once, since they mostly wait."""
    folder = tmp_path_factory.mktemp("cost")
    url = migrated_database(postgresql, f"cost-{uuid4().hex[:8]}")
    with receiving() as receiver, ThreadPoolExecutor(2) as pool:
        found = {
            "postgresql": pool.submit(costs, url, folder / "cluster", receiver.url),
            "sqlite": pool.submit(costs, f"sqlite:///{folder / 'pixtools.db'}", folder),
        }
        each = {name: future.result() for name, future in found.items()}
        assert len(receiver.requests) == 2
    return each


@pytest.mark.integration
def test_a_job_of_one_step_costs_four_commits_and_eighteen_statements(measured: Measured) -> None:
    within(measured["postgresql"][0], 4, 18)


@pytest.mark.integration
def test_a_webhook_adds_two_commits_and_eight_statements(measured: Measured) -> None:
    within(measured["postgresql"][1], 6, 26)


@pytest.mark.integration
def test_one_process_with_sqlite_pays_the_same(measured: Measured) -> None:
    within(measured["sqlite"][0], 4, 18)
