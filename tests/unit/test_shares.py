"""A slow host holds no more than its share of the threads; at a quick one everybody waits for a place."""

import threading
import time

import pytest

from app.services.breakers import HostPaused
from app.services.shares import SLOW_SECONDS, Shares

HOST, OTHER = "https://one.test:443", "https://two.test:443"


def hold(shares: Shares, release: threading.Event, host: str = HOST) -> threading.Thread:
    entered = threading.Event()

    def attempt() -> None:
        with shares.one(host):
            entered.set()
            release.wait(10)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert entered.wait(10)
    return thread


def test_a_quick_host_is_waited_for() -> None:
    shares, release = Shares(1), threading.Event()
    thread = hold(shares, release)
    threading.Timer(0.2, release.set).start()
    with shares.one(HOST):
        assert release.is_set()
    thread.join()


def test_a_slow_host_is_not_waited_for_and_others_have_places_of_their_own() -> None:
    shares, release = Shares(2), threading.Event()
    threads = [hold(shares, release) for _ in range(2)]
    time.sleep(SLOW_SECONDS + 0.1)
    began = time.monotonic()
    with pytest.raises(HostPaused), shares.one(HOST):
        pytest.fail("there was no place")
    assert time.monotonic() - began < SLOW_SECONDS / 2
    with shares.one(OTHER):
        pass
    release.set()
    for thread in threads:
        thread.join()
    with shares.one(HOST):
        pass


def test_a_host_that_was_slow_is_waited_for_no_more_until_it_is_quick_again() -> None:
    shares, release = Shares(1), threading.Event()
    with shares.one(HOST):
        time.sleep(SLOW_SECONDS + 0.1)
    thread = hold(shares, release)
    with pytest.raises(HostPaused), shares.one(HOST):
        pytest.fail("there was no place")
    release.set()
    thread.join()
    thread = hold(shares, again := threading.Event())
    threading.Timer(0.2, again.set).start()
    with shares.one(HOST):
        pass
    thread.join()
