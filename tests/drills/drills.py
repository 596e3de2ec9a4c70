"""The drills: what fails, and how an operator repairs it. docs/runbooks/ describes them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.matrix import Stage, flush_redis
from tests.conftest import make_photo

PIXELS = "app.imaging.child"
WORKER = 1  # index among the deployment's processes: the worker of the standard queue
LARGE = make_photo(2400, 1800)
TOO_MUCH = "1000GB"  # more than any disk has free, which sets off the alarm


def nothing(_: Stage) -> None:
    pass


@dataclass(frozen=True)
class Drill:
    """A drill."""

    name: str
    fail: Callable[[Stage], None]
    repair: Callable[[Stage], None] = nothing
    #: what the operator does when all jobs have ended
    afterwards: Callable[[Stage], None] = nothing
    settings: dict[str, str] = field(default_factory=dict)
    #: seconds from the failure to the repair
    lasts: float = 8.0


def command(stage: Stage, *arguments: str) -> str:
    """Run a `pixtools` command as an operator does, and print it with its output; returns the output."""
    line = [sys.executable, "-m", "app", *arguments]
    done = subprocess.run(
        line, env=stage.deployment.variables(), check=True, timeout=60, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    print(f"$ pixtools {' '.join(arguments)}", *lines[:3], f"({len(lines)} lines)", sep="\n", flush=True)
    return done.stdout


def interrupt(stage: Stage) -> None:
    """A spot node is interrupted: one worker gets SIGTERM while it works."""
    with stage.deployment.client() as api:
        for _ in range(4):
            api.accepted(LARGE, ["convert_avif"])
    time.sleep(1.5)
    stage.deployment.processes[WORKER].terminate()


def vanish(stage: Stage) -> None:
    """The node that replaced it disappears without notice, and is replaced in turn."""
    worker = stage.deployment.processes[WORKER]
    worker.wait(60)
    replace(stage)
    time.sleep(4)
    os.killpg(stage.deployment.processes[WORKER].pid, signal.SIGKILL)
    stage.deployment.processes[WORKER].wait(10)
    replace(stage)


def replace(stage: Stage) -> None:
    stage.deployment.processes[WORKER] = stage.deployment.restart(WORKER)


def fill_disk(stage: Stage) -> None:
    stage.servers.rabbitmq.ctl("set_disk_free_limit", TOO_MUCH)


def free_disk(stage: Stage) -> None:
    stage.servers.rabbitmq.ctl("set_disk_free_limit", "50MB")


def lose_redis(stage: Stage) -> None:
    flush_redis(stage)
    stage.servers.redis.kill()


def lose_database(stage: Stage) -> None:
    stage.servers.postgresql.kill()


class Poison:
    """Kills every pixel process soon after its start, as the kernel does when memory is short."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def begin(self, stage: Stage) -> None:
        self._thread = threading.Thread(target=self._kill, args=(stage,))
        self._thread.start()

    def _kill(self, stage: Stage) -> None:
        while not self._over.wait(0.02):
            for process in stage.deployment.processes:
                with suppress(psutil.Error):
                    for child in psutil.Process(process.pid).children(recursive=True):
                        if PIXELS in child.cmdline():
                            child.kill()

    def end(self, _: Stage) -> None:
        self._over.set()
        self._thread.join()


def look_at_letters(stage: Stage) -> None:
    first = command(stage, "server", "dlq", "list").split()[0]
    command(stage, "server", "dlq", "show", first)
    command(stage, "server", "dlq", "redrive", "--all")


POISON = Poison()
DRILLS = [
    Drill("spot-interruption", interrupt, vanish, settings={"PIXTOOLS_DRAIN_SECONDS": "0.5"}),
    Drill("broker-disk-full", fill_disk, free_disk, lasts=15),
    Drill("redis-lost", lose_redis, lambda stage: stage.servers.redis.wipe()),  # comes back empty
    Drill("database-failover", lose_database, lambda stage: stage.servers.postgresql.start()),
    Drill(
        "poison-flood",
        POISON.begin,
        POISON.end,
        look_at_letters,
        settings={"PIXTOOLS_STEP_MAX_ATTEMPTS": "2"},
        lasts=40,
    ),
]


def log_since(path: Path, offset: int) -> str:
    with path.open() as log:
        log.seek(offset)
        return log.read()
