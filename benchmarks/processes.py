"""What processes cost, read from Linux: nanoseconds on the CPU and the peak of memory, with all their children."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
GONE = (OSError, psutil.NoSuchProcess)


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
