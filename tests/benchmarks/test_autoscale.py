"""The simulation of autoscaling: that it loses and doubles nothing, repeats itself, and agrees with theory."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.autoscale import assumptions as a
from benchmarks.autoscale.compare import arrivals, fleet_for
from benchmarks.autoscale.scaling import Scaler
from benchmarks.autoscale.simulator import Outcome, Simulation

HOURS = 2
STORM = 20.0  # interruptions of a node in an hour
LONG = 200.0  # seconds of a task: longer than the drain and the notice


def simulate(
    seed: int, rate: float = 3000, seconds: float = 2.0, pool: a.Pool = a.STANDARD, **options: float
) -> Outcome:
    random = np.random.default_rng(seed)
    times = arrivals(rate, HOURS, random)
    work = [float(value) for value in random.exponential(seconds, len(times))]
    settings = {"most": 40, "until": HOURS * 3600, **options}
    return Simulation(pool, times, work, seed=seed, **settings).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", a.POOLS, ids=lambda pool: pool.name)
def test_every_job_ends_once_in_a_storm_of_interruptions(seed: int, pool: a.Pool) -> None:
    rate = 3000 if pool is a.STANDARD else 300
    outcome = simulate(seed, rate, pool=pool, interruptions=STORM)
    assert outcome.interruptions > 20
    assert outcome.submitted == outcome.done == len(outcome.waits)
    assert outcome.lost == outcome.doubled == 0
    assert min(outcome.waits) >= -1e-6


def test_tasks_longer_than_the_notice_are_redelivered_until_they_end() -> None:
    outcome = simulate(1, 60, LONG, interruptions=5.0)
    assert outcome.redelivered > 0
    assert outcome.submitted == outcome.done
    assert outcome.doubled == 0


def test_the_accounting_would_see_a_lost_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Simulation, pod: object, after: float) -> None:
        self.busy -= len(pod.running)  # type: ignore[attr-defined]
        pod.running.clear()  # type: ignore[attr-defined]

    monkeypatch.setattr(Simulation, "_give_back", forget)
    outcome = simulate(1, 60, LONG, interruptions=5.0)
    assert outcome.lost > 0


def test_the_same_seed_gives_the_same_and_another_one_does_not() -> None:
    one, again, other = (simulate(seed, interruptions=2.0) for seed in (1, 1, 2))
    assert one == again
    assert one.waits != other.waits


def erlang_c(servers: int, load: float) -> float:
    """Probability that a job of M/M/c has to wait."""
    terms = [load**number / math.factorial(number) for number in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(
    ("servers", "utilization"),
    [pytest.param(1, 0.7, marks=pytest.mark.full), pytest.param(3, 0.8, marks=pytest.mark.full), (6, 0.9)],
)
def test_a_fixed_fleet_waits_as_long_as_the_theory_of_queues_says(servers: int, utilization: float) -> None:
    random = np.random.default_rng(7)
    number, service = 400_000, 1.0
    times = np.cumsum(random.exponential(service / (servers * utilization), number))
    work = random.exponential(service, number)
    pool = replace(a.STANDARD, rules=replace(a.STANDARD.rules, slots=1, cpu=a.STANDARD.cores))
    outcome = Simulation(pool, list(map(float, times)), list(map(float, work)), seed=0, fixed=servers).run()
    expected = erlang_c(servers, servers * utilization) * service / (servers * (1 - utilization))
    assert np.mean(outcome.waits) == pytest.approx(expected, rel=0.08)
    assert outcome.interruptions == 0
    assert outcome.node_seconds == pytest.approx(servers * times[-1], rel=0.01)


def test_arrivals_have_the_rate_and_the_burst() -> None:
    times = np.array(arrivals(10_000, 20, np.random.default_rng(3)))
    assert len(times) == pytest.approx(200_000, rel=0.02)
    assert (np.diff(times) >= 0).all()
    begin, end = a.BURST
    within = ((times % 3600 >= begin) & (times % 3600 < end)).sum() / 20
    assert within == pytest.approx(10_000 / 3600 * a.BURST_FACTOR * (end - begin), rel=0.02)


def test_a_load_becomes_pods_within_minutes_and_goes_after_the_window() -> None:
    scaler = Scaler(a.STANDARD, most=50)
    pods, seen = 1, []
    for tick in range(120):
        messages = 192 if tick < 20 else 0
        pods = scaler.want(tick * a.HPA_SYNC, messages, pods)
        seen.append(pods)
    assert max(seen[:20]) == 192 // a.STANDARD.target
    # four pods, which are two nodes, every half minute; then twice as many
    assert seen[:6:2] == [3, 6, 12]
    window = a.STANDARD.rules.window // a.HPA_SYNC
    assert seen[19 + window - 1] == max(seen)
    # one pod a minute
    assert seen[19 + window :: 8][:3] == [max(seen) - 1, max(seen) - 2, max(seen) - 3]


def test_small_differences_change_nothing_and_the_limit_holds() -> None:
    scaler = Scaler(a.STANDARD, most=12)
    assert scaler.want(0, 10 * a.STANDARD.target + 3, 10) == 10
    assert scaler.want(15, 1_000_000, 10) == 12


def test_an_empty_ml_queue_costs_nothing_after_the_cooldown() -> None:
    scaler = Scaler(a.ML, most=5)
    assert scaler.activate(0, 0, 0) == 0
    assert scaler.activate(30, 1, 0) == 1
    assert scaler.activate(60, 0, 1) == 1
    assert scaler.activate(30 + a.ML.rules.cooldown, 0, 1) == 0
    idle = Simulation(a.ML, [10.0], [2.0], seed=1, most=5, until=24 * 3600, interruptions=0).run()
    assert idle.lost == 0
    assert idle.node_seconds < 3600


def test_a_fleet_for_a_load_has_room_above_it() -> None:
    assert fleet_for(0.001, a.STANDARD) == 1
    assert fleet_for(32, a.STANDARD) == 10
