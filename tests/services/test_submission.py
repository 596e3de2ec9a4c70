"""What the way of an upload keeps from one request to the next, and when it is put off."""

import asyncio

import pytest

from app.database import Database
from app.errors import InvalidOperations, TooMuchWork
from app.services import jobs
from app.services.intake.backpressure import Backpressure
from app.services.intake.operation_tree import TreeLimits
from app.services.intake.submission import LONGEST_KEPT, _tree
from tests.support.work import (
    accept,
)

LIMITS = TreeLimits(nodes=8, depth=4, bytes=10_000)
SENT = '["resize", "convert_webp"]'.replace('"resize"', '{"op": "resize", "width": 64}')


def test_a_tree_that_was_sent_before_is_checked_and_planned_once() -> None:
    tree = _tree(SENT, LIMITS)
    assert _tree(SENT, LIMITS) is tree
    assert tree.plan("jpeg") is tree.plan("jpeg")
    assert tree.plan("jpeg") != tree.plan("png"), "what no operation converts keeps its format"


def test_other_limits_are_another_check() -> None:
    _tree(SENT, LIMITS)
    with pytest.raises(InvalidOperations):
        _tree(SENT, TreeLimits(nodes=1, depth=4, bytes=10_000))


def test_a_tree_that_is_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidOperations):
            _tree('["nothing"]', LIMITS)


def test_a_long_tree_is_not_kept() -> None:
    sent = SENT + " " * LONGEST_KEPT
    assert _tree(sent, LIMITS) is not _tree(sent, LIMITS)


def test_too_much_work_is_put_off_and_taken_again(database: Database) -> None:
    def checked(limit: int) -> None:
        other = Database(database.url().render_as_string(hide_password=False).replace("+psycopg", ""))

        async def run() -> None:
            try:
                await Backpressure(other, limit).check()
            finally:
                await other.aclose()

        asyncio.run(run())

    waiting = [accept(database, ["convert_png"]) for _ in range(3)]
    checked(4)
    with pytest.raises(TooMuchWork) as caught:
        checked(3)
    assert (caught.value.limit, caught.value.value, caught.value.retry_after) == (3, 3, 30)
    with database.session() as session:
        jobs.cancel(session, waiting[0])
    checked(3)
