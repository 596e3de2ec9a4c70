"""The fault matrix with few jobs and kills: `make test` runs one row, `make test-full` some more, `make chaos` all of
them with hundreds of jobs. In `make test` an API is killed after a commit by test_buckets.py."""

from operator import attrgetter
from pathlib import Path

import pytest

from tests.support.fixtures import ClusterServers
from tests.support.sampling import WHOLE

from .matrix import CONTROL, FAULTS, Fault, run
from .run import resolved

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SHORT = ("worker: kill -9 during the pixel work",)
LONGER = (
    "none",
    "API: kill -9 after the commit",
    "two workers on one step",
    "worker: kill -9 between the upload of the output and its row",
    "dispatcher: kill -9 between the claim and the message",
    "webhook sender: kill -9 after the answer",
    "Redis: FLUSHALL, eight times",
    "no chord is ever counted",
)
ROWS = [*SHORT, *(pytest.param(name, marks=pytest.mark.full) for name in LONGER)]


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if "CHAOS_POINT" in fault.environment], ids=attrgetter("name")
)
def test_the_place_of_a_fault_is_in_the_code(fault: Fault) -> None:
    assert callable(resolved(*fault.environment["CHAOS_POINT"].split(":")[:2])[2])


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_lost_or_doubled(name: str, cluster_servers: ClusterServers, tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    if WHOLE:
        row = run(fault, cluster_servers, tmp_path, jobs=20, kills=3)
    else:
        row = run(fault.every(4), cluster_servers, tmp_path, jobs=4, kills=1, spare=False)
    assert row.struck, "the fault did not happen"
    assert row.holds, f"{row}, {row.left_in_outbox} left in the outbox"


def test_loss_would_be_seen(cluster_servers: ClusterServers, tmp_path: Path) -> None:
    row = run(CONTROL, cluster_servers, tmp_path, jobs=6, end_within=5, spare=False)
    assert row.ended < row.accepted
