"""Growing pauses between attempts, with a random share, so that work that failed together does not return together."""

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
    #: the part of a pause that is not random; 1: all of it
    least_share: float = 1.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after so many failed attempts.

        Args:
            attempt: from 1.
        """
        doublings = min(attempt - 1, 64)  # a larger exponent would only overflow
        return float(min(self.first * self.factor**doublings, self.longest)) * random.uniform(self.least_share, 1)

    def pauses(self) -> Iterator[float]:
        """The pauses one after another, without end."""
        attempt = 0
        while True:
            attempt += 1
            yield self.pause(attempt)
