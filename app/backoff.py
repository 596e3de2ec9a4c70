"""Pauses between attempts: they grow, with a random share, so that what failed together does not come back together."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Pauses that grow by a factor up to the longest."""

    #: seconds
    first: float
    #: seconds
    longest: float
    factor: float = 2.0
    #: the least share of a pause that randomness leaves; 1: all of it
    least_share: float = 1.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after so many failed attempts.

        Args:
            attempt: from 1.
        """
        doublings = min(attempt - 1, 64)  # a power beyond that would only overflow
        return float(min(self.first * self.factor**doublings, self.longest)) * random.uniform(self.least_share, 1)

    def pauses(self) -> Iterator[float]:
        """One pause after another, without end."""
        attempt = 0
        while True:
            attempt += 1
            yield self.pause(attempt)
