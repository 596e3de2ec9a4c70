"""A discrete-event simulation of a queue and its workers' pods, on nodes that come, go and are interrupted.

All pods of a node count as one. Jobs start in the order of the queue. A job that loses its worker returns to the front
of the queue: at once if the worker could hand it back, otherwise when its lease has expired.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from . import assumptions as a
from .scaling import Scaler


@dataclass(eq=False)
class Node:
    """A machine with or without a pod."""

    since: float
    pod: "Pod | None" = None
    empty_since: float = 0.0
    doomed: bool = False


@dataclass(eq=False)
class Pod:
    """A worker, and the jobs that it runs with their attempt numbers."""

    node: Node
    running: dict[int, int] = field(default_factory=dict)
    #: whether it takes messages
    open: bool = False
    gone: bool = False


@dataclass
class Outcome:
    """The outcome of all jobs. The warm-up counts only in `submitted`, `refused` and `endings`."""

    submitted: int
    #: how often each job has ended
    endings: bytearray
    #: for each job, the seconds from arrival to end without those of its successful attempt
    waits: list[float]
    #: jobs that were answered with 503, because too many were unfinished: all, and those after the warm-up
    refused: int = 0
    refused_later: int = 0
    most_open: int = 0
    node_seconds: float = 0.0
    interruptions: int = 0
    redelivered: int = 0
    most_nodes: int = 0

    @property
    def done(self) -> int:
        return sum(1 for times in self.endings if times)

    @property
    def lost(self) -> int:
        return self.submitted - self.refused - self.done

    @property
    def doubled(self) -> int:
        return sum(self.endings) - self.done

    def wait(self, percentile: float) -> float:
        return max(0.0, float(np.percentile(self.waits, percentile))) if self.waits else 0.0


class Simulation:
    """A run of the simulation. A fixed fleet has no scaler and no interruptions."""

    def __init__(
        self,
        pool: a.Pool,
        arrivals: Sequence[float],
        seconds: Sequence[float],
        *,
        seed: int,
        fixed: int | None = None,
        most: int = 1,
        interruptions: float = a.INTERRUPTIONS,
        unannounced: float = a.UNANNOUNCED,
        until: float = 0.0,
        warmup: float = 0.0,
        most_open: int | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            pool: kind of worker.
            arrivals: arrival times of the jobs in seconds, ascending.
            seconds: duration of each job.
            seed: seed of the random numbers.
            fixed: number of nodes of a fixed fleet; None for KEDA's.
            most: greatest number of nodes of KEDA's fleet.
            interruptions: interruptions per node and hour.
            unannounced: share of interruptions without notice.
            until: least number of simulated seconds.
            warmup: seconds at the beginning in which neither waits nor costs count.
            most_open: number of unfinished jobs from which new ones are refused; None: no limit.
        """
        self.pool, self.arrivals, self.seconds = pool, arrivals, seconds
        self.random = np.random.default_rng(seed)
        self.fixed, self.until, self.unannounced = fixed, until, unannounced
        self.warmup, self.most_open = warmup, most_open
        self.scaler = Scaler(pool, most)
        self.mean_life = 3600 / interruptions if interruptions and fixed is None else math.inf
        self.wanted = pool.rules.least if fixed is None else fixed
        self.nodes: dict[Node, None] = {}  # in order of creation; a set's order would differ between runs
        self.booting = 0
        self.pods: list[Pod] = []
        self.queue: deque[int] = deque()
        self.free: list[Pod] = []  # an entry per free slot; those of closed pods are skipped
        self.busy = self.away = 0  # jobs that run, and jobs that wait for redelivery
        self.attempts = bytearray(len(arrivals))
        self.outcome = Outcome(len(arrivals), bytearray(len(arrivals)), [])
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = count()
        self.now = 0.0

    def run(self) -> Outcome:
        """Simulate until every job has ended, but at least until `until`."""
        for _ in range(self.wanted):  # the initial fleet
            self._add_node()
            self._start_pod()
        if self.fixed is None:
            self._at(0.0, self._control)
        index, total = 0, len(self.arrivals)
        while index < total or self.queue or self.busy or self.away:
            if index < total and (not self._events or self.arrivals[index] <= self._events[0][0]):
                self.now = self.arrivals[index]
                self._submit(index)
                index += 1
            else:
                self._step()
        while self._events and self._events[0][0] < self.until:
            self._step()
        self.now = max(self.now, self.until)
        for node in list(self.nodes):
            self._pay(node)
        return self.outcome

    def _at(self, when: float, call: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (when, next(self._order), call, arguments))

    def _step(self) -> None:
        self.now, _, call, arguments = heapq.heappop(self._events)
        call(*arguments)

    @property
    def _counts(self) -> bool:
        return self.now >= self.warmup

    # Jobs

    def _submit(self, job: int) -> None:
        unfinished = len(self.queue) + self.busy + self.away
        if self.most_open is not None and unfinished >= self.most_open:
            self.outcome.refused += 1
            self.outcome.refused_later += self._counts
            return
        if self._counts:
            self.outcome.most_open = max(self.outcome.most_open, unfinished + 1)
            self.outcome.most_nodes = max(self.outcome.most_nodes, len(self.nodes))
        self.queue.append(job)
        self._dispatch()

    def _dispatch(self) -> None:
        while self.queue and self.free:
            pod = self.free.pop()
            if not pod.open:
                continue
            job = self.queue.popleft()
            self.attempts[job] = min(self.attempts[job] + 1, 255)
            pod.running[job] = self.attempts[job]
            self.busy += 1
            self._at(self.now + self.seconds[job], self._finish, pod, job, self.attempts[job])

    def _finish(self, pod: Pod, job: int, attempt: int) -> None:
        if pod.running.get(job) != attempt:
            return  # this attempt was handed back, or died with its pod
        del pod.running[job]
        self.busy -= 1
        self.outcome.endings[job] += 1
        if self.arrivals[job] >= self.warmup:
            self.outcome.waits.append(self.now - self.arrivals[job] - self.seconds[job])
        if pod.open:
            self.free.append(pod)
            self._dispatch()
        elif not pod.running:
            self._end_pod(pod)

    def _give_back(self, pod: Pod, after: float) -> None:
        """Deliver all jobs that a pod runs again, after a number of seconds."""
        for job in pod.running:
            self.busy -= 1
            self.away += 1
            self.outcome.redelivered += self._counts
            self._at(self.now + after, self._redeliver, job)
        pod.running.clear()

    def _redeliver(self, job: int) -> None:
        self.away -= 1
        self.queue.appendleft(job)
        self._dispatch()

    # Pods and nodes

    def _start_pod(self) -> None:
        node = next(node for node in self.nodes if node.pod is None and not node.doomed)
        node.pod = pod = Pod(node)
        self.pods.append(pod)
        if self.fixed is not None or self.now == 0:
            self._open(pod)
        else:
            self._at(self.now + a.POD_START, self._open, pod)

    def _open(self, pod: Pod) -> None:
        if not pod.gone:
            pod.open = True
            self.free.extend([pod] * self.pool.slots)
            self._dispatch()

    def _drain(self, pod: Pod) -> None:
        """Send SIGTERM: the pod takes no more jobs, and running ones have `DRAIN` seconds to end."""
        if pod in self.pods:
            self.pods.remove(pod)
        pod.open, pod.gone = False, True
        if pod.running:
            self._at(self.now + a.DRAIN, self._end_pod, pod)
        else:
            self._end_pod(pod)

    def _end_pod(self, pod: Pod) -> None:
        self._give_back(pod, 0.0)
        if pod.node.pod is pod:
            pod.node.pod, pod.node.empty_since = None, self.now

    def _add_node(self) -> None:
        node = Node(self.now, empty_since=self.now)
        self.nodes[node] = None
        if self._counts:
            self.outcome.most_nodes = max(self.outcome.most_nodes, len(self.nodes))
        if self.mean_life < math.inf:
            self._at(self.now + self.random.exponential(self.mean_life), self._interrupt, node)

    def _booted(self) -> None:
        self.booting -= 1
        if self._counts:
            self.outcome.node_seconds += a.NODE_BOOT  # a node is paid for from its start
        self._add_node()
        self._place()

    def _pay(self, node: Node) -> None:
        del self.nodes[node]
        self.outcome.node_seconds += max(0.0, self.now - max(node.since, self.warmup))

    def _interrupt(self, node: Node) -> None:
        if node not in self.nodes:
            return
        self.outcome.interruptions += self._counts
        node.doomed = True
        if self.random.random() < self.unannounced:
            self._taken(node)
            return
        if node.pod:
            self._drain(node.pod)
        self._at(self.now + a.NOTICE, self._taken, node)

    def _taken(self, node: Node) -> None:
        if node not in self.nodes:
            return
        if pod := node.pod:
            pod.open, pod.gone = False, True
            if pod in self.pods:
                self.pods.remove(pod)
            self._give_back(pod, a.REDELIVERY)
        self._pay(node)

    # Control loops

    def _control(self) -> None:
        """Run the control loops. This is called every five seconds, and each loop's interval is a multiple of that."""
        messages = len(self.queue) + self.busy + self.away
        if self.now % self.pool.rules.polling == 0:
            self.wanted = self.scaler.activate(self.now, messages, self.wanted)
        if self.now % a.HPA_SYNC == 0:
            self.wanted = self.scaler.want(self.now, messages, self.wanted)
        while len(self.pods) > self.wanted:
            self._drain(self.pods[-1])
        self._place()
        if self.now % a.AUTOSCALER_SCAN == 0:
            self._scale_nodes()
        if self.now < self.until or messages or self.now < self.arrivals[-1]:
            self._at(self.now + 5, self._control)

    def _place(self) -> None:
        empty = sum(1 for node in self.nodes if node.pod is None and not node.doomed)
        for _ in range(min(empty, self.wanted - len(self.pods))):
            self._start_pod()

    def _scale_nodes(self) -> None:
        pending = self.wanted - len(self.pods) - self.booting
        for _ in range(pending):
            self.booting += 1
            self._at(self.now + a.NODE_BOOT, self._booted)
        unneeded = [
            node
            for node in self.nodes
            if node.pod is None and not node.doomed and self.now - node.empty_since >= a.NODE_UNNEEDED
        ]
        spare = len(self.nodes) - self.pool.rules.least
        for node in sorted(unneeded, key=lambda node: node.since)[: max(spare, 0)]:
            self._pay(node)
