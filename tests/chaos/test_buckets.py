"""A whole bucket is processed into another one through faults: 8 objects by `make test`, 2,000 by `make test-full`."""

from pathlib import Path

import pytest

from tests.support.fixtures import ClusterServers

from .buckets import run

pytestmark = pytest.mark.integration
#: attempts that one strike may cost: all that the fetch worker runs at a time
IN_WORK = 16


@pytest.mark.timeout(600)
def test_each_object_comes_out_once_whatever_is_killed(cluster_servers: ClusterServers, tmp_path: Path) -> None:
    report = run(cluster_servers, tmp_path, objects=8, in_turn=False, lease_seconds=5)
    print(report)  # noqa: T201 - the figures
    assert report.holds, report
    assert {left for _, left in report.strikes} == {report.objects}, "a job has ended before it was struck"
    assert report.attempts - report.tasks <= IN_WORK * len(report.strikes)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_thousand_objects_and_hardly_anything_done_twice(cluster_servers: ClusterServers, tmp_path: Path) -> None:
    report = run(cluster_servers, tmp_path, objects=2000)
    print(report)  # noqa: T201 - the figures
    assert report.holds, report
    assert all(left for _, left in report.strikes), "the last strikes met nothing"
    assert report.redone < 0.02, report
