"""How many pods KEDA and the HPA want, and how many nodes the cluster autoscaler: pure rules, without a clock."""

import math
from collections import deque
from dataclasses import dataclass, field

from .assumptions import TOLERANCE, Pool
from .manifests import Policy


@dataclass
class Scaler:
    """A ScaledObject and the HPA that it makes; a pod is a node full of them."""

    pool: Pool
    most: int
    #: what was wanted lately, with its time; decreasing, so that the first is the most of them
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    #: pods that came or went, with the time
    _changes: deque[tuple[float, int]] = field(default_factory=deque)
    _last_active: float = -math.inf

    def activate(self, now: float, messages: int, pods: int) -> int:
        """KEDA's own part: from none to one, and back after the cooldown."""
        if messages:
            self._last_active = now
            return max(pods, 1)
        idle = now - self._last_active >= self.pool.rules.cooldown
        return 0 if idle and self.pool.rules.least == 0 else pods

    def want(self, now: float, messages: int, pods: int) -> int:
        """The HPA's part, for one pod or more: the average of messages for each pod is to be the target."""
        if pods == 0:
            return 0
        ratio = messages / (self.pool.target * pods)
        desired = pods if abs(ratio - 1) <= TOLERANCE else math.ceil(messages / self.pool.target)
        desired = min(max(desired, self.pool.rules.least, 1), self.most)
        allowed = self._allowed(now, self._stabilized(now, desired, pods), pods)
        if allowed != pods:
            self._changes.append((now, allowed - pods))
        return allowed

    def _stabilized(self, now: float, desired: int, pods: int) -> int:
        """Up at once; down to the most that was wanted within the window."""
        while self._wanted and self._wanted[-1][1] <= desired:
            self._wanted.pop()
        self._wanted.append((now, desired))
        while self._wanted[0][0] <= now - self.pool.rules.window:
            self._wanted.popleft()
        return max(desired, min(self._wanted[0][1], pods))

    def _allowed(self, now: float, desired: int, pods: int) -> int:
        """As far towards what is desired as the policies let go within their times."""
        up, down = self.pool.rules.up, self.pool.rules.down
        came = sum(number for number in self._since(now - up.seconds) if number > 0)
        went = -sum(number for number in self._since(now - down.seconds * self.pool.pods) if number < 0)
        highest = pods - came + self._step(up, pods - came)
        # one pod in a minute is one node of two pods in two minutes
        lowest = pods + went - self._step(down, pods + went)
        return max(min(desired, max(highest, pods)), min(lowest, pods))

    def _since(self, begin: float) -> list[int]:
        longest = max(self.pool.rules.up.seconds, self.pool.rules.down.seconds * self.pool.pods)
        while self._changes and self._changes[0][0] <= self._changes[-1][0] - longest:
            self._changes.popleft()
        return [number for when, number in self._changes if when > begin]

    def _step(self, policy: Policy, pods: int) -> int:
        """The larger of both; a single pod takes its node with it."""
        return max(math.ceil(policy.pods / self.pool.pods), math.ceil(pods * policy.percent / 100))
