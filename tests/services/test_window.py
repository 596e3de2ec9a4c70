"""How large the window of a queue is, and what counts as small work."""

import json
from typing import Any

import pytest

from app.operations import Queue
from app.services.dag_builder import plan
from app.services.intake.operation_tree import TreeLimits, parse_tree
from app.services.scheduling.effort import Size, is_small
from app.services.scheduling.window import Depth, Sizes


@pytest.mark.parametrize(
    ("queue", "messages_", "workers", "room"),
    [
        (Queue.DEFAULT, 0, 0, 4),
        (Queue.DEFAULT, 0, 1, 4),
        (Queue.DEFAULT, 3, 1, 1),
        (Queue.DEFAULT, 9, 1, 0),
        (Queue.DEFAULT, 0, 10, 20),
        (Queue.DEFAULT, 0, 99, 40),
        (Queue.ML, 0, 0, 2),
        (Queue.ML, 0, 8, 8),
        (Queue.SMALL, 0, 0, 0),
        (Queue.SMALL, 0, 1, 2),
        (Queue.SMALL, 1, 5, 4),
    ],
)
def test_the_window_grows_with_the_workers(queue: Queue, messages_: int, workers: int, room: int) -> None:
    """With what runs, a full one has twice what the workers take, so that twice as many are asked for."""
    sizes = Sizes(worker_takes=2, most_workers=20)
    assert sizes.room(queue, Depth(messages=messages_, workers=workers)) == room


@pytest.mark.parametrize(
    ("tree", "size", "small"),
    [
        (["convert_png"], (8, 8), True),
        (["flip"], (640, 480), True),
        ([{"op": "convert_avif", "effort": 9}], (8, 8), True),
        ([{"op": "convert_avif", "effort": 9}], (640, 480), False),
        ([{"op": "convert_jpeg", "max_bytes": 9000}], (640, 480), False),
        ([{"op": "convert_webp", "lossless": True}], (640, 480), False),
        (["convert_avif"], (4000, 3000), False),
        (["flip"], (16000, 3000), False),
        ([{"op": "resize", "width": 9000, "then": ["convert_png"]}], (8, 8), True),
        ([{"op": "resize", "width": 9000, "enlarge": True, "then": ["convert_png"]}], (8, 8), False),
        ([{"op": "resize", "width": 9000, "height": 9000, "fit": "contain"}], (8, 8), False),
        (["denoise"], (8, 8), False),
    ],
)
def test_what_is_small(tree: list[Any], size: tuple[int, int], small: bool) -> None:
    planned = plan(parse_tree(json.dumps(tree), TreeLimits(nodes=9, depth=9, bytes=999))[1], "jpeg")
    assert is_small(planned, planned.tasks[-1], Size(*size)) == small
    assert not is_small(planned, planned.tasks[-1], None), "not known yet"
