"""Schemathesis against a running PixTools, where nothing but loopback can be reached."""

import subprocess
import sys

import pytest

from tests.support import loopback
from tests.support.sampling import SHARE, WHOLE

pytestmark = pytest.mark.integration

MODES = ("embedded", "cluster")
# The phase `coverage` is the longest, and always the same; what checks requests is the same in both modes as well.
SAMPLE = [
    ("embedded", "examples,coverage,stateful"),
    pytest.param("embedded", "fuzzing", marks=pytest.mark.full),
    pytest.param("cluster", "examples,fuzzing,stateful", marks=pytest.mark.full),
]
LONG = 600  # seconds in each mode
PATIENCE = 3600 if WHOLE else 480  # seconds for one test on a busy machine


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    reason = loopback.missing()
    if reason:
        pytest.skip(f"schemathesis would call addresses that it invents: {reason}")


def run(*arguments: str) -> None:
    """Examine; on failure the report of schemathesis is shown."""
    command = [sys.executable, "-m", "tests.contract", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-12_000:]


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize(("mode", "phases"), SAMPLE)
def test_a_sample_of_requests_is_answered_as_described(mode: str, phases: str) -> None:
    examples, share = (3, 1) if WHOLE else (2, 12 * SHARE)
    run(mode, "--examples", str(examples), "--seed", "20261128", "--phases", phases, "--share", str(share))


@pytest.mark.full
@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("mode", MODES)
def test_ten_minutes_of_requests_are_answered_as_described(mode: str) -> None:
    run(mode, "--examples", "100", "--seconds", str(LONG))


def test_nothing_but_loopback_is_reached() -> None:
    script = "from tests.support.loopback import is_isolated as i; print(i())"
    done = subprocess.run(
        loopback.isolated([sys.executable, "-c", script]), capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True", done.stderr
    assert not loopback.is_isolated(), "this test itself has a network"
