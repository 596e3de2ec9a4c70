"""The fault matrix in short: few jobs, the rows that differ most. `make chaos` runs all of it."""

from pathlib import Path

import pytest

from tests.support.fixtures import ClusterServers

from .matrix import CONTROL, FAULTS, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SHORT = (
    "none",
    "worker: kill -9 during the pixel work",
    "worker: kill -9 between the upload of the output and its row",
    "API: kill -9 after the commit",
    "dispatcher: kill -9 between the claim and the message",
    "webhook sender: kill -9 after the answer",
    "Redis: FLUSHALL, eight times",
    "two workers on one step",
    "no chord is ever counted",
)


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_or_doubled(name: str, cluster_servers: ClusterServers, tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    row = run(fault, cluster_servers, tmp_path, jobs=20)
    assert row.struck, "the fault did not happen"
    assert row.holds, f"{row}, {row.left_in_outbox} left in the outbox"


def test_loss_would_be_seen(cluster_servers: ClusterServers, tmp_path: Path) -> None:
    row = run(CONTROL, cluster_servers, tmp_path, jobs=40, end_within=15)
    assert row.ended < row.accepted
