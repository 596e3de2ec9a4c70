"""Compares KEDA on spot nodes with fleets of a fixed size, from 10 to 1,000,000 jobs an hour.

    python -m benchmarks autoscale

Task times come from samples.json, as measured by benchmarks/autoscale/tasks.py; all other assumptions are in
assumptions.py. The same seed gives the same table. Draws docs/images/scaling.svg.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import assumptions as a
from .picture import draw
from .simulator import Outcome, Simulation

ROOT = Path(__file__).parents[2]
SAMPLES: dict[str, list[float]] = json.loads((Path(__file__).parent / "samples.json").read_text())
RATES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)  # jobs an hour
WARMUP, MEASURED = 2, 6  # hours; the start of a cold cluster is not counted
LEAST_JOBS, LONGEST = 2_000, 168  # low rates are measured for more hours, up to a week
SEED = 20261124
FLEETS = ("KEDA, spot", "KEDA, as shipped", "fixed, average", "fixed, peak")


@dataclass(frozen=True)
class Row:
    """The outcome of a fleet at a rate of jobs."""

    rate: int
    fleet: str
    pool: a.Pool
    outcome: Outcome
    hours: float

    @property
    def price(self) -> float:
        return self.pool.spot_price if self.fleet.startswith("KEDA") else self.pool.fixed_price

    @property
    def node_hours(self) -> float:
        """Node hours per million images in this pool."""
        return self.outcome.node_seconds / 3600 * 1e6 / max(1, len(self.outcome.waits))

    @property
    def dollars(self) -> float:
        return self.node_hours * self.price

    def __str__(self) -> str:
        out = self.outcome
        figures = (
            f"{len(out.waits):,}",
            f"{out.wait(50):.1f}",
            f"{out.wait(99):.1f}",
            f"{out.most_nodes}",
            f"{out.most_open:,}",
            f"{out.refused_later:,}",
            f"{self.node_hours:,.0f}",
            f"{self.dollars:,.0f}",
            f"{out.interruptions}",
            f"{out.redelivered}",
            f"{out.lost}",
        )
        return f"| {self.rate:,} | {self.fleet} | {' | '.join(figures)} |"


HEADING = (
    "| jobs an hour | fleet | counted | wait p50, s | wait p99, s | most nodes | most open | refused "
    "| node hours a million | dollars a million | interruptions | redelivered | lost |\n|---:|---|" + "---:|" * 11
)


def span(rate: float) -> int:
    """The number of simulated hours, including the warm-up."""
    return WARMUP + max(MEASURED, min(LONGEST, math.ceil(LEAST_JOBS / rate)))


def arrivals(rate: float, hours: int, random: np.random.Generator) -> list[float]:
    """Arrival times in seconds: a Poisson process with a burst in each hour, on average `rate` jobs an hour."""
    begin, end = a.BURST
    quiet = (3600 - a.BURST_FACTOR * (end - begin)) / (3600 - (end - begin))
    found = []
    for hour in range(hours):
        for start, stop, factor in ((0, begin, quiet), (begin, end, a.BURST_FACTOR), (end, 3600, quiet)):
            number = random.poisson(rate / 3600 * factor * (stop - start))
            found.append(np.sort(random.uniform(start, stop, number)) + hour * 3600)
    return [float(when) for when in np.concatenate(found)]


def fleet_for(load: float, pool: a.Pool) -> int:
    """The number of nodes of a fixed fleet for a load, which is the average number of running tasks."""
    return max(1, math.ceil(load / pool.slots / a.UTILIZATION))


def compare(rate: int, pool: a.Pool, samples: Sequence[float], seed: int) -> list[Row]:
    """Simulate the same jobs with each fleet."""
    random = np.random.default_rng([seed, rate, pool.slots])
    hours = span(rate)
    times = arrivals(rate * pool.share, hours, random)
    seconds = [float(value) for value in random.choice(samples, len(times)) / pool.speed]
    load = rate * pool.share / 3600 * float(np.mean(samples)) / pool.speed
    peak = fleet_for(load * a.BURST_FACTOR, pool)
    sizes = ((None, 2 * peak + 2), (None, pool.shipped), (fleet_for(load, pool), 0), (peak, 0))
    rows = []
    for fleet, (fixed, most) in zip(FLEETS, sizes, strict=True):
        run = Simulation(pool, times, seconds, seed=seed, fixed=fixed, most=most, **_common(hours))
        rows.append(Row(rate, fleet, pool, run.run(), hours))
    return rows


def _common(hours: int) -> dict[str, Any]:
    return {"until": hours * 3600.0, "warmup": WARMUP * 3600.0, "most_open": a.MOST_OPEN}


def storm(rate: int, pool: a.Pool, samples: Sequence[float], seed: int) -> Row:
    """Simulate only KEDA's fleet, while its nodes are interrupted one after the other."""
    random = np.random.default_rng([seed, rate, pool.slots])
    hours = span(rate)
    times = arrivals(rate * pool.share, hours, random)
    seconds = [float(value) for value in random.choice(samples, len(times)) / pool.speed]
    most = 4 * fleet_for(rate * pool.share / 3600 * float(np.mean(samples)) / pool.speed * a.BURST_FACTOR, pool)
    taken = {"interruptions": a.STORM_INTERRUPTIONS, "unannounced": a.STORM_UNANNOUNCED}
    simulation = Simulation(pool, times, seconds, seed=seed, most=most, **taken, **_common(hours))
    return Row(rate, f"{FLEETS[0]}: {pool.name}", pool, simulation.run(), hours)


def ceiling(pool: a.Pool, samples: Sequence[float]) -> int:
    """The most jobs an hour that the pods of the manifests can do, rounded to thousands."""
    done = pool.shipped * pool.slots * 3600 / (float(np.mean(samples)) / pool.speed)
    return round(done / 1000) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--least", type=int, default=RATES[0], help="jobs an hour, to leave out lower rates")
    parser.add_argument("--most", type=int, default=RATES[-1], help="jobs an hour, to leave out higher rates")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "scaling.svg")
    options = parser.parse_args()
    rows = []
    for pool in a.POOLS:
        print(f"\n{pool.name} pool: {pool.share:.0%} of the jobs\n\n{HEADING}", flush=True)
        for rate in RATES:
            if options.least <= rate <= options.most and rate * pool.share * span(rate) >= 10:
                found = compare(rate, pool, SAMPLES[pool.name], options.seed)
                rows += found
                print(*found, sep="\n", flush=True)
    print(f"\nA storm: {a.STORM_INTERRUPTIONS:g} interruptions of a node in an hour\n\n{HEADING}", flush=True)
    stormy = [
        storm(rate, pool, SAMPLES[pool.name], options.seed)
        for pool in a.POOLS
        for rate in RATES[3:]
        if options.least <= rate <= options.most
    ]
    print(*stormy, sep="\n", flush=True)
    most = ceiling(a.STANDARD, SAMPLES["standard"])
    print(f"\nAs shipped, as fast as it can: {most:,} jobs an hour in the standard pool")
    if options.least == RATES[0]:
        options.plot.write_text(draw(rows, FLEETS))
    bad = [row for row in rows + stormy if row.outcome.lost or row.outcome.doubled]
    raise SystemExit(f"lost or doubled: {bad}" if bad else 0)
