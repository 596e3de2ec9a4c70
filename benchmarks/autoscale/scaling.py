"""The rules by which KEDA and the HPA choose the number of pods, without a clock of their own."""

import math
from collections import deque
from dataclasses import dataclass, field

from .assumptions import TOLERANCE, Pool
from .manifests import Policy


@dataclass
class Scaler:
    """A ScaledObject and the HPA that KEDA creates for it; a pod here stands for all pods of a node."""

    pool: Pool
    most: int
    #: times and recent numbers of wanted pods, decreasing, so that the first is the largest
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    #: times and changes of the number of pods
    _changes: deque[tuple[float, int]] = field(default_factory=deque)
    _last_active: float = -math.inf

    def activate(self, now: float, messages: int, pods: int) -> int:
        """The part of KEDA: scale from zero to one pod, and back after the cooldown."""
        if messages:
            self._last_active = now
            return max(pods, 1)
        idle = now - self._last_active >= self.pool.rules.cooldown
        return 0 if idle and self.pool.rules.least == 0 else pods

    def want(self, now: float, messages: int, pods: int) -> int:
        """The part of the HPA, for one pod or more: keep the average number of messages per pod at the target."""
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
        """The desired number of pods, or when scaling down, the largest one within the stabilization window."""
        while self._wanted and self._wanted[-1][1] <= desired:
            self._wanted.pop()
        self._wanted.append((now, desired))
        while self._wanted[0][0] <= now - self.pool.rules.window:
            self._wanted.popleft()
        return max(desired, min(self._wanted[0][1], pods))

    def _allowed(self, now: float, desired: int, pods: int) -> int:
        """The number closest to the desired one that the scaling policies allow now."""
        up, down = self.pool.rules.up, self.pool.rules.down
        came = sum(number for number in self._since(now - up.seconds) if number > 0)
        went = -sum(number for number in self._since(now - down.seconds * self.pool.pods) if number < 0)
        highest = pods - came + self._step(up, pods - came)
        # one pod a minute means one node of two pods in two minutes
        lowest = pods + went - self._step(down, pods + went)
        return max(min(desired, max(highest, pods)), min(lowest, pods))

    def _since(self, begin: float) -> list[int]:
        longest = max(self.pool.rules.up.seconds, self.pool.rules.down.seconds * self.pool.pods)
        while self._changes and self._changes[0][0] <= self._changes[-1][0] - longest:
            self._changes.popleft()
        return [number for when, number in self._changes if when > begin]

    def _step(self, policy: Policy, pods: int) -> int:
        """The larger of both limits of a policy, in nodes, rounded up."""
        return max(math.ceil(policy.pods / self.pool.pods), math.ceil(pods * policy.percent / 100))
