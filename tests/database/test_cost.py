"""What a job costs the database: transactions and statements from the request to the last answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.deployment import ROOT
from tests.support.receiver import receiving
from tests.support.servers import PostgreSQL


def cost(url: str, folder: Path, *webhook: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.cost", url, str(folder / "data"), *webhook]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)
    assert ran.returncode == 0, ran.stderr[-4000:]
    measured: dict[str, Any] = json.loads(ran.stdout)
    assert measured["status"] == "completed"
    return measured


def within(measured: dict[str, Any], commits: int, statements: int) -> None:
    listed = "\n".join(measured["statements"])
    assert measured["commits"] <= commits, f"{measured['commits']} commits\n{listed}"
    assert len(measured["statements"]) <= statements, f"{len(measured['statements'])} statements\n{listed}"


@pytest.mark.integration
def test_a_job_of_one_step_costs_four_commits_and_sixteen_statements(postgresql: PostgreSQL, tmp_path: Path) -> None:
    within(cost(postgresql.create_database(f"cost-{uuid4().hex[:8]}"), tmp_path), 4, 16)


@pytest.mark.integration
def test_a_webhook_adds_two_commits_and_eight_statements(postgresql: PostgreSQL, tmp_path: Path) -> None:
    with receiving() as receiver:
        within(cost(postgresql.create_database(f"cost-{uuid4().hex[:8]}"), tmp_path, receiver.url), 6, 24)
        assert receiver.requests


def test_one_process_with_sqlite_pays_the_same(tmp_path: Path) -> None:
    within(cost(f"sqlite:///{tmp_path / 'pixtools.db'}", tmp_path), 4, 16)
