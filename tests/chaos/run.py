"""Starts a PixTools command with a fault: `python -m tests.chaos.run MODULE ARGUMENTS...`.

Environment variables define the fault, so that the code of the service needs no hooks for tests:

    CHAOS_POINT   module:Class.function:when    kills this process at this call; when = before | after | soon
    CHAOS_EVERY   only at every n-th of these calls, counted over all processes
    CHAOS_KILLS   at most this number of times
    CHAOS_COUNT   the file with the counters
    CHAOS_PATCH   duplicate | steal | uncounted publishes every message twice; lets every claim take a claimed task;
                                                loses the counts of all chords, so that their bodies never run
"""

import asyncio
import fcntl
import functools
import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOON = 0.05  # seconds
HEARTBEAT = 4  # seconds


def main() -> None:
    importlib.import_module("app.tasks.celery_app").GUARANTEES["broker_heartbeat"] = HEARTBEAT
    _pass_on()
    if point := os.environ.get("CHAOS_POINT"):
        _arm(*point.split(":"))
    if patch := os.environ.get("CHAOS_PATCH"):
        {"duplicate": _duplicate, "steal": _steal, "uncounted": _uncounted}[patch]()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _pass_on() -> None:
    """Start the spare process of a worker with the fault as well."""
    from app.tasks import spare

    command = spare._command

    def with_fault(hostname: str) -> list[str]:
        python, dash_m, *rest = command(hostname)
        return [python, dash_m, "tests.chaos.run", *rest]

    spare._command = with_fault


def _arm(module: str, path: str, when: str) -> None:
    owner, name, function = resolved(module, path)
    setattr(owner, name, _killing(function, when))


def resolved(module: str, path: str) -> tuple[Any, str, Callable[..., Any]]:
    """A function by its path in a module: the module or class that holds it, its name there, and the function."""
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def _killing(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    def passed(moment: str) -> None:
        if moment == when and _is_due():
            _die()
        if moment == "after" and when == "soon" and _is_due():
            threading.Timer(SOON, _die).start()

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        passed("before")
        answer = function(*args, **kwargs)
        passed("after")
        return answer

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        passed("before")
        answer = await function(*args, **kwargs)
        passed("after")
        return answer

    return awaited if asyncio.iscoroutinefunction(function) else called


def _is_due() -> bool:
    with Path(os.environ["CHAOS_COUNT"]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        calls, kills = map(int, (file.read() or "0 0").split())
        due = (calls + 1) % int(os.environ["CHAOS_EVERY"]) == 0 and kills < int(os.environ["CHAOS_KILLS"])
        file.truncate(0)
        file.write(f"{calls + 1} {kills + due}")
        return due


def _die() -> None:
    from app.tasks import spare

    parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    if b"celery" in parent and b"tests.chaos.run" in parent and not spare.is_one():
        os.kill(os.getppid(), signal.SIGKILL)  # a worker dies with its child; a spare process dies alone
    os.kill(os.getpid(), signal.SIGKILL)


def _duplicate() -> None:
    from kombu.messaging import Producer

    publish = Producer.publish

    def twice(self: Any, *args: Any, **kwargs: Any) -> Any:
        publish(self, *args, **kwargs)
        return publish(self, *args, **kwargs)

    Producer.publish = twice


def _steal() -> None:
    from app.models import STEP_OPEN, Step
    from app.services import steps

    steps._is_free = lambda: Step.status.in_(STEP_OPEN)
    _duplicate()


def _uncounted() -> None:
    from app.tasks.redis_backend import CountingRedisBackend

    CountingRedisBackend.on_chord_part_return = lambda *_, **__: None  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
