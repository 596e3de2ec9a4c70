"""How many pods KEDA and the HPA want, and how many nodes the cluster autoscaler: pure rules, without a clock."""

import math
from collections import deque
from dataclasses import dataclass, field

from .assumptions import KEDA_COOLDOWN, SCALE_UP_PODS, STABILIZATION, TOLERANCE, Pool


@dataclass
class Scaler:
    """A ScaledObject and the HPA that it makes."""

    pool: Pool
    most: int
    #: what was wanted lately, with its time; decreasing, so that the first is the most of them
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _last_active: float = -math.inf

    def activate(self, now: float, messages: int, pods: int) -> int:
        """KEDA's own part: from none to one, and back after the cooldown."""
        if messages:
            self._last_active = now
            return max(pods, 1)
        idle = now - self._last_active >= KEDA_COOLDOWN
        return 0 if idle and self.pool.least == 0 else pods

    def want(self, now: float, messages: int, pods: int) -> int:
        """The HPA's part, for one pod or more: the average of messages for each pod is to be the target."""
        if pods == 0:
            return 0
        ratio = messages / (self.pool.target * pods)
        desired = pods if abs(ratio - 1) <= TOLERANCE else math.ceil(messages / self.pool.target)
        desired = min(max(desired, self.pool.least, 1), self.most)
        if desired > pods:
            desired = min(desired, max(2 * pods, pods + SCALE_UP_PODS))
        return max(desired, min(self._stabilized(now, desired), pods))

    def _stabilized(self, now: float, desired: int) -> int:
        """The most that was wanted within the window."""
        while self._wanted and self._wanted[-1][1] <= desired:
            self._wanted.pop()
        self._wanted.append((now, desired))
        while self._wanted[0][0] <= now - STABILIZATION:
            self._wanted.popleft()
        return self._wanted[0][1]
