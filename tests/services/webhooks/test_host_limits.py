"""A slow host holds no more than its share of the threads; at a quick one everybody waits for a place."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from app.services.webhooks import host_limits
from app.services.webhooks.breakers import HostPaused
from app.services.webhooks.host_limits import BUSY_SECONDS, LONGEST_LINE, SLOW_SECONDS, HostLimits

HOST, OTHER = "https://one.test:443", "https://two.test:443"

LONG = 60.0  # seconds


class Clock:
    """That of the limits, to be moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(host_limits, "time", SimpleNamespace(monotonic=moved))
    return moved


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts wait hardly any time for a place, of which a clock that stands knows nothing."""
    monkeypatch.setattr(host_limits, "SLOW_SECONDS", 0.1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is quick, and is waited for, on a busy machine as well."""
    monkeypatch.setattr(host_limits, "SLOW_SECONDS", LONG)


def hold(shares: HostLimits, release: threading.Event, host: str = HOST) -> threading.Thread:
    entered = threading.Event()

    def attempt() -> None:
        with shares.one(host):
            entered.set()
            release.wait(10)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert entered.wait(10)
    return thread


def end(threads: list[threading.Thread], release: threading.Event) -> None:
    release.set()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("patient")
def test_a_quick_host_is_waited_for() -> None:
    shares, release = HostLimits(1, 16), threading.Event()
    thread = hold(shares, release)
    threading.Timer(0.2, release.set).start()
    with shares.one(HOST):
        assert release.is_set()
    thread.join()


def test_a_slow_host_is_not_waited_for_and_others_have_places_of_their_own(clock: Clock) -> None:
    shares, release = HostLimits(2, 16), threading.Event()
    threads = [hold(shares, release) for _ in range(2)]
    clock.now += SLOW_SECONDS + 0.1
    took = []
    for _ in range(3):  # one of which is quick on a busy machine as well
        began = time.monotonic()
        with pytest.raises(HostPaused), shares.one(HOST):
            pytest.fail("there was no place")
        took.append(time.monotonic() - began)
    assert min(took) < SLOW_SECONDS / 2
    with shares.one(OTHER):
        pass
    end(threads, release)
    with shares.one(HOST):
        pass


@pytest.mark.usefixtures("patient")
def test_a_host_that_was_slow_is_waited_for_no_more_until_it_is_quick_again(clock: Clock) -> None:
    shares, release = HostLimits(1, 16), threading.Event()
    with shares.one(HOST):
        clock.now += LONG + 0.1
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


THREADS = 16


@pytest.mark.slow
def test_those_who_wait_for_a_host_leave_threads_for_others() -> None:
    shares, log = HostLimits(4, THREADS), []

    def attempt(host: str, seconds: float) -> None:
        try:
            with shares.one(host):
                time.sleep(seconds)
                log.append(host)
        except HostPaused:
            log.append("put off")

    attempt(HOST, 0.01)  # as it is known
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(100):
            pool.submit(attempt, HOST, SLOW_SECONDS * 0.7)
        for _ in range(5):
            pool.submit(attempt, OTHER, 0.01)
    assert log.index(OTHER) < 3 + 100 - 4, "not behind all that were there first"
    assert [host for host in log if host != "put off"].index(OTHER) <= 1 + 2 * 4


def test_many_names_of_one_domain_have_no_more_places_than_two_hosts(clock: Clock) -> None:
    shares, release = HostLimits(4, THREADS), threading.Event()
    names = [f"https://h{number}.example.co.uk:443" for number in range(12)]
    for name in (*names, "https://h.other.co.uk:443"):
        with shares.one(name):
            pass
    threads = [hold(shares, release, name) for name in names[:8]]
    clock.now += SLOW_SECONDS + 0.1
    for name in names[8:]:
        with pytest.raises(HostPaused), shares.one(name):
            pytest.fail("there was no place")
    with shares.one("https://h.other.co.uk:443"):
        pass
    end(threads, release)


@pytest.mark.usefixtures("impatient")
def test_hosts_that_were_never_asked_have_half_of_the_threads(clock: Clock) -> None:
    shares, release = HostLimits(4, THREADS), threading.Event()
    with shares.one(HOST):
        pass
    threads = [hold(shares, release, f"https://one{number}.test:443") for number in range(4)]
    threads += [hold(shares, release, f"https://{number}.test{number}:443") for number in range(4)]
    clock.now += SLOW_SECONDS + 0.1
    with pytest.raises(HostPaused), shares.one("https://late.test9:443"):
        pytest.fail("there was no place")
    with shares.one(HOST):
        pass
    end(threads, release)


@pytest.mark.usefixtures("impatient")
def test_an_attempt_that_a_breaker_has_stopped_makes_no_host_a_quick_one(clock: Clock) -> None:
    shares, release = HostLimits(4, THREADS), threading.Event()
    hosts = [f"https://{number}.test{number}:443" for number in range(9)]
    for host in hosts:
        with pytest.raises(HostPaused), shares.one(host):
            raise HostPaused(60)
    threads = [hold(shares, release, host) for host in hosts[:8]]
    clock.now += SLOW_SECONDS + 0.1
    with pytest.raises(HostPaused), shares.one(hosts[8]):
        pytest.fail("there was no place")
    end(threads, release)


def test_turns_follow_each_other_as_fast_as_the_host_answers(clock: Clock) -> None:
    shares, release = HostLimits(2, THREADS), threading.Event()
    with shares.one(HOST):
        clock.now += SLOW_SECONDS + 0.1
    threads = [hold(shares, release) for _ in range(2)]
    turns = []
    for _ in range(600):
        with pytest.raises(HostPaused) as put_off, shares.one(HOST):
            pytest.fail("there was no place")
        assert not put_off.value.grows
        turns.append(put_off.value.seconds)
    end(threads, release)
    assert turns[0] > BUSY_SECONDS
    assert (turns[20] - turns[0]) / 20 == pytest.approx((SLOW_SECONDS + 0.1) / 2)
    assert max(turns) <= LONGEST_LINE
