"""Growing, partly random pauses between attempts, so that work that failed together is not retried together."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Pauses in seconds that grow by a factor, up to a maximum."""

    #: seconds
    first: float
    #: seconds
    longest: float
    factor: float = 2.0
    #: the part of a pause that is not random; 1: all of it
    least_share: float = 1.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt.

        Args:
            attempt: number of the attempt, from 1.
        """
        doublings = min(attempt - 1, 64)  # a larger exponent would only overflow
        return float(min(self.first * self.factor**doublings, self.longest)) * random.uniform(self.least_share, 1)

    def pauses(self) -> Iterator[float]:
        """An endless sequence of pauses in seconds."""
        attempt = 0
        while True:
            attempt += 1
            yield self.pause(attempt)
