"""Checks that hang, fail and are asked by many."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from app.services.monitoring import checks as health
from app.services.monitoring.checks import Check, Checks, Degraded, Health, Question


@dataclass
class Asked:
    """A dependency that counts."""

    answer: Callable[[], Awaitable[object]]
    times: int = 0

    async def __call__(self) -> object:
        self.times += 1
        return await self.answer()


async def fine() -> str:
    return "value"


async def gone() -> None:
    raise ConnectionError("password in here")


async def lame() -> None:
    raise Degraded("no worker")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 0.05)
    monkeypatch.setattr(health, "FRESH_SECONDS", 60)


def test_what_each_answer_means() -> None:
    async def ask() -> dict[str, Check]:
        return await Checks({"a": Question(fine), "b": Question(gone), "c": Question(lame)}, ("a",)).run()

    checks = asyncio.run(ask())
    assert checks["a"].health is Health.OK
    assert checks["a"].value == "value"
    assert (checks["b"].health, checks["b"].error) == (Health.DOWN, "ConnectionError")
    assert (checks["c"].health, checks["c"].error) == (Health.DEGRADED, "no worker")


@pytest.mark.parametrize(
    ("failing", "overall"), [("essential", Health.DOWN), ("other", Health.DEGRADED), ("", Health.OK)]
)
def test_only_what_is_essential_takes_all_down(failing: str, overall: Health) -> None:
    async def ask() -> Health:
        questions = {name: Question(gone if name == failing else fine) for name in ("essential", "other")}
        checks = Checks(questions, ("essential",))
        return checks.overall(await checks.run())

    assert asyncio.run(ask()) is overall


def test_a_check_that_hangs_is_asked_once_and_ends_by_itself() -> None:
    async def ask() -> None:
        release = asyncio.Event()
        asked = Asked(release.wait)
        question = Question(asked)
        for _ in range(3):
            late = await question.check()
            assert (late.health, late.error) == (Health.DOWN, "no answer in time")
        assert asked.times == 1
        release.set()
        await asyncio.sleep(0.01)
        assert (await question.check()).health is Health.OK
        assert asked.times == 1

    asyncio.run(ask())


def test_many_who_ask_at_once_share_one_answer() -> None:
    async def ask() -> None:
        asked = Asked(fine)
        question = Question(asked)
        answers = await asyncio.gather(*(question.check() for _ in range(50)))
        assert asked.times == 1
        assert all(answer is answers[0] for answer in answers)

    asyncio.run(ask())


def test_slow_checks_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 5.0)

    async def ask() -> None:
        gate = asyncio.Barrier(4)
        questions = {str(number): Question(gate.wait) for number in range(4)}
        checks = await asyncio.wait_for(Checks(questions, ()).run(), 4)
        assert all(check.health is Health.OK for check in checks.values())

    asyncio.run(ask())
