"""One thread keeps the leases of everything that a process runs."""

import threading
import time

import pytest

from app.services.execution.leases import LeaseKeeper

EVERY = 0.05  # seconds
PATIENCE = 10.0  # seconds


def keepers() -> set[threading.Thread]:
    """Also those of other tests, which end when they look next."""
    return {thread for thread in threading.enumerate() if thread.name == "leases"}


def test_leases_are_renewed_by_one_thread_that_ends_with_the_last_of_them() -> None:
    others, keeper, renewed = keepers(), LeaseKeeper(EVERY), [threading.Event(), threading.Event()]

    def renewing(event: threading.Event) -> bool:
        event.set()
        return True

    with keeper.keep(lambda: renewing(renewed[0])) as first, keeper.keep(lambda: renewing(renewed[1])) as second:
        assert all(event.wait(PATIENCE) for event in renewed)
        assert len(keepers() - others) == 1
        assert not first.is_set()
        assert not second.is_set()
    deadline = time.monotonic() + PATIENCE
    while keepers() - others and time.monotonic() < deadline:
        time.sleep(EVERY)
    assert not keepers() - others
    with keeper.keep(lambda: False) as lost:
        assert lost.wait(PATIENCE), "it begins again"


def test_a_lease_that_is_lost_is_not_asked_for_again() -> None:
    keeper, asked = LeaseKeeper(EVERY), []
    with keeper.keep(lambda: bool(asked.append(None))) as lost:
        assert lost.wait(PATIENCE)
        time.sleep(4 * EVERY)
    assert len(asked) == 1


def test_a_renewal_that_crashes_costs_the_other_leases_nothing() -> None:
    keeper, asked = LeaseKeeper(EVERY), [threading.Event(), threading.Event()]

    def crash() -> bool:
        event = asked[asked[0].is_set()]
        event.set()
        raise RuntimeError("unexpected")

    with keeper.keep(crash) as crashing, keeper.keep(lambda: False) as other:
        assert other.wait(PATIENCE)
        assert all(event.wait(PATIENCE) for event in asked), "it is asked again"
        assert not crashing.is_set()


def test_a_thread_that_cannot_be_started_is_started_for_the_next_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    keeper = LeaseKeeper(EVERY)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError), keeper.keep(lambda: True):
            pass
    with keeper.keep(lambda: False) as lost:
        assert lost.wait(PATIENCE)
