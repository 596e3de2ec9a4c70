"""Measures CPU time and memory of processes with all their children, as Linux reports them."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
GONE = (OSError, psutil.NoSuchProcess)
IDLE = 4.0  # seconds over which the idle load of a service is measured


def family(pids: Iterable[int]) -> set[int]:
    """The processes and all their descendants."""
    found = set(pids)
    for pid in list(found):
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of running processes, and of the children that they have waited for."""
    total = 0.0
    for pid in pids:
        with suppress(*GONE):
            total += time.clock_gettime((~pid << 3) | 2)  # the CPU clock of another process, for all its threads
            of_children = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += sum(map(int, of_children)) / TICKS
    return total


@dataclass(frozen=True)
class Spent:
    """The cost of some work in seconds: wall-clock time, and CPU time beyond the idle load."""

    wall: float
    own: float
    servers: float


@dataclass
class Meter:
    """Measures the CPU time of a service and of its servers."""

    pids: Callable[[], Iterable[int]]
    #: processes of the servers that it uses
    server_pids: Callable[[], Iterable[int]] = set
    #: idle load in CPU seconds per second: its own, and that of its servers
    idle: tuple[float, float] = (0.0, 0.0)

    def used(self) -> tuple[float, float]:
        """CPU seconds so far: of the service, and of its servers."""
        return cpu_seconds(self.pids()), cpu_seconds(self.server_pids())

    def rest(self) -> None:
        """Measure the idle load."""
        before = self.used()
        time.sleep(IDLE)
        own, servers = self.used()
        self.idle = (own - before[0]) / IDLE, (servers - before[1]) / IDLE

    def spent(self, work: Callable[[], object], settle: float) -> Spent:
        """Do the work, and measure its cost until `settle` seconds after its end."""
        before, began = self.used(), time.perf_counter()
        work()
        wall = time.perf_counter() - began
        time.sleep(settle)
        own, servers = self.used()
        seconds = time.perf_counter() - began
        return Spent(wall, own - before[0] - self.idle[0] * seconds, servers - before[1] - self.idle[1] * seconds)


def peaks(pids: Iterable[int]) -> list[int]:
    """The peak resident memory of each process (VmHWM) in bytes, largest first."""
    return sorted((_status(pid, "VmHWM") for pid in pids), reverse=True)


def resident(pid: int) -> int:
    """The resident memory of a process (VmRSS) in bytes."""
    return _status(pid, "VmRSS")


def _status(pid: int, field: str) -> int:
    with suppress(*GONE):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0
