"""Checks whether the parts of the service answer, all in parallel and each with its own time-out.

A check that hangs is not started again until it ends, so that hanging checks do not accumulate.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.errors import PixToolsError

TIMEOUT = 3.0  # seconds for each check
FRESH_SECONDS = 1.0  # an answer is reused for so long, however many requests ask


class Health(StrEnum):
    OK = "ok"
    #: work is accepted, but may be late: a part is missing
    DEGRADED = "degraded"
    DOWN = "down"


class Degraded(Exception):
    """The part answers, but is not fully functional."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    health: Health
    seconds: float
    #: why it is not ok; safe to show
    error: str | None = None
    #: the value that the check has read
    value: Any = None

    def as_json(self) -> dict[str, Any]:
        fields = {"status": self.health.value, "seconds": round(self.seconds, 4)}
        return fields | ({"error": self.error} if self.error else {})


@dataclass
class Question:
    """A check that can be repeated."""

    ask: Callable[[], Awaitable[Any]]
    _running: asyncio.Task[Check] | None = None
    _answered: tuple[float, Check] | None = None

    async def check(self) -> Check:
        """Run the check, unless there is a fresh answer; `down` if no answer comes in time."""
        if self._answered and time.monotonic() - self._answered[0] < FRESH_SECONDS:
            return self._answered[1]
        running = self._running = self._running or asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({running}, timeout=TIMEOUT)
        if not done:
            return Check(health=Health.DOWN, seconds=TIMEOUT, error="no answer in time")
        return running.result()

    async def _ask(self) -> Check:
        started = time.perf_counter()
        health, error, value = Health.OK, None, None
        try:
            value = await self.ask()
        except Degraded as reason:
            health, error = Health.DEGRADED, str(reason)
        except Exception as reason:  # noqa: BLE001 - whatever a client library raises: it does not answer
            health, error = Health.DOWN, reason.message if isinstance(reason, PixToolsError) else type(reason).__name__
        check = Check(health=health, seconds=time.perf_counter() - started, error=error, value=value)
        self._answered, self._running = (time.monotonic(), check), None
        return check


@dataclass(frozen=True)
class Checks:
    """All checks of one process."""

    questions: Mapping[str, Question]
    #: parts without which no work can be accepted
    essential: tuple[str, ...]

    async def run(self, *names: str) -> dict[str, Check]:
        """Run these checks, or all, in parallel."""
        wanted = names or tuple(self.questions)
        answers = await asyncio.gather(*(self.questions[name].check() for name in wanted))
        return dict(zip(wanted, answers, strict=True))

    def overall(self, checks: Mapping[str, Check]) -> Health:
        """The state of the service as a whole."""
        if any(checks[name].health is Health.DOWN for name in self.essential if name in checks):
            return Health.DOWN
        all_ok = all(check.health is Health.OK for check in checks.values())
        return Health.OK if all_ok else Health.DEGRADED
