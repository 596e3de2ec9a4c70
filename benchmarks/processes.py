"""CPU time in nanoseconds and peak memory of processes with all their children, read from Linux."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
GONE = (OSError, psutil.NoSuchProcess)
IDLE = 4.0  # seconds in which a service at rest is looked at


def family(pids: Iterable[int]) -> set[int]:
    """The processes and all that descend from them."""
    found = set(pids)
    for pid in list(found):
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of living processes, and of the children that they have seen end."""
    total = 0.0
    for pid in pids:
        with suppress(*GONE):
            total += time.clock_gettime((~pid << 3) | 2)  # the clock of all threads of another process
            of_children = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += sum(map(int, of_children)) / TICKS
    return total


@dataclass(frozen=True)
class Spent:
    """What some work took, in seconds: on the clock, and on the CPU beyond what the processes use when idle."""

    wall: float
    own: float
    servers: float


@dataclass
class Meter:
    """Reads what a service and the servers behind it use."""

    pids: Callable[[], Iterable[int]]
    #: of the servers that it uses
    server_pids: Callable[[], Iterable[int]] = set
    #: CPU seconds a second while it is idle: its own, and those of its servers
    idle: tuple[float, float] = (0.0, 0.0)

    def used(self) -> tuple[float, float]:
        """CPU seconds so far: its own, and those of its servers."""
        return cpu_seconds(self.pids()), cpu_seconds(self.server_pids())

    def rest(self) -> None:
        """Find out what it uses when idle."""
        before = self.used()
        time.sleep(IDLE)
        own, servers = self.used()
        self.idle = (own - before[0]) / IDLE, (servers - before[1]) / IDLE

    def spent(self, work: Callable[[], object], settle: float) -> Spent:
        """Do the work, and count what it causes until so many seconds after its end."""
        before, began = self.used(), time.perf_counter()
        work()
        wall = time.perf_counter() - began
        time.sleep(settle)
        own, servers = self.used()
        seconds = time.perf_counter() - began
        return Spent(wall, own - before[0] - self.idle[0] * seconds, servers - before[1] - self.idle[1] * seconds)


def peaks(pids: Iterable[int]) -> list[int]:
    """The most memory that each process has held so far (VmHWM) in bytes, largest first."""
    return sorted((_status(pid, "VmHWM") for pid in pids), reverse=True)


def resident(pid: int) -> int:
    """The memory that a process holds now (VmRSS), in bytes."""
    return _status(pid, "VmRSS")


def _status(pid: int, field: str) -> int:
    with suppress(*GONE):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0
