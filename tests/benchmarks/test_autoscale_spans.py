"""What of a simulation counts: not its warm-up, nor what is refused while too many jobs are open."""

from dataclasses import replace

import pytest

from benchmarks.autoscale import assumptions as a
from benchmarks.autoscale.compare import ceiling
from benchmarks.autoscale.simulator import Outcome, Simulation


def run(arrivals: list[float], seconds: float, **options: float | int | None) -> Outcome:
    return Simulation(a.STANDARD, arrivals, [seconds] * len(arrivals), seed=1, fixed=1, **options).run()  # type: ignore[arg-type]


def test_waits_and_costs_of_the_warm_up_are_not_counted() -> None:
    cold = [float(second) for second in range(100)]  # far more than one node can do
    later = [5000.0, 5001.0]
    outcome = run([*cold, *later], 20.0, warmup=4000.0, until=6000.0)
    assert len(outcome.waits) == 2
    assert outcome.wait(99) == 0
    assert outcome.node_seconds == pytest.approx(6000 - 4000, abs=30)
    assert outcome.lost == outcome.doubled == 0
    assert outcome.done == 102


def test_jobs_above_the_most_that_may_be_open_are_refused_and_not_lost() -> None:
    outcome = run([float(number) / 100 for number in range(50)], 100.0, most_open=10)
    assert outcome.refused == outcome.refused_later == 40
    assert outcome.most_open == 10
    assert (outcome.done, outcome.lost) == (10, 0)


def test_without_that_limit_none_is_refused() -> None:
    outcome = run([float(number) / 100 for number in range(50)], 1.0)
    assert (outcome.refused, outcome.done) == (0, 50)


def test_the_ceiling_is_what_the_pods_of_the_manifests_get_done() -> None:
    assert a.STANDARD.shipped == 10
    twice = replace(a.STANDARD, rules=replace(a.STANDARD.rules, most=2 * a.STANDARD.rules.most))
    assert ceiling(a.STANDARD, [0.5]) == 10 * 4 * 3600 * 2
    assert ceiling(twice, [0.5]) == 2 * ceiling(a.STANDARD, [0.5])
