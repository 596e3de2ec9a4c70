"""One thread keeps the leases of everything that a process runs."""

import threading
import time

from app.services.leases import LeaseKeeper

EVERY = 0.05  # seconds
PATIENCE = 10.0  # seconds


def keepers() -> int:
    return sum(thread.name == "leases" for thread in threading.enumerate())


def test_leases_are_renewed_by_one_thread_that_ends_with_the_last_of_them() -> None:
    keeper, renewed = LeaseKeeper(EVERY), [threading.Event(), threading.Event()]

    def renewing(event: threading.Event) -> bool:
        event.set()
        return True

    with keeper.keep(lambda: renewing(renewed[0])) as first, keeper.keep(lambda: renewing(renewed[1])) as second:
        assert all(event.wait(PATIENCE) for event in renewed)
        assert keepers() == 1
        assert not first.is_set()
        assert not second.is_set()
    deadline = time.monotonic() + PATIENCE
    while keepers() and time.monotonic() < deadline:
        time.sleep(EVERY)
    assert keepers() == 0
    with keeper.keep(lambda: False) as lost:
        assert lost.wait(PATIENCE), "it begins again"


def test_a_lease_that_is_lost_is_not_asked_for_again() -> None:
    keeper, asked = LeaseKeeper(EVERY), []
    with keeper.keep(lambda: bool(asked.append(None))) as lost:
        assert lost.wait(PATIENCE)
        time.sleep(4 * EVERY)
    assert len(asked) == 1
